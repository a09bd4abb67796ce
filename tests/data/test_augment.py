"""Our augmentation against ImageRecordIter's: equal pixels where nothing is random, else one distribution."""

import hashlib
from dataclasses import asdict, replace

import cv2
import mxnet as mx
import numpy as np
import pytest
from scipy.stats import ks_2samp

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import reader, recordio
from mxnet_resnet.data.augment import DRAWS, LEVELS, Augmentation, _warp, augment, level
from mxnet_resnet.data.datasets import BACKENDS
from mxnet_resnet.data.writer import RecordWriter

SAMPLES = 600
# Of two samples from one distribution, a p this small comes once in ten thousand tests; all seeds here are fixed.
SMALLEST_P = 1e-4
WARPS_OTHERWISE = int(cv2.__version__.partition(".")[0]) >= 5  # by one grey level, in two values of a thousand


def record_file(folder, image, copies=1):
    """A record file of ``copies`` of an RGB image, lossless."""
    png = cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()
    with RecordWriter(folder / "images") as writer:
        for key in range(copies):
            writer.write(key, 0.0, png, f"{key}.png")
    return folder / "images.rec"


def read_by(backend, path, preset, side, pad=0, mirror=True, batch_size=1):
    """All crops (N, side, side, 3) of an epoch, by our reader or by MXNet's."""
    if backend == "opencv":
        training = reader.TrainingRecords(
            path, recordio.scan(path), (3, side, side), batch_size, preset, pad, mirror, seed=7
        )
        images = [batch.images for batch in training.epoch(0)]
    else:  # without seed_aug: with it MXNet seeds its generator anew for each image, and no longer draws evenly
        batches = mx.io.ImageRecordIter(
            path_imgrec=str(path),
            data_shape=(3, side, side),
            batch_size=batch_size,
            rand_crop=True,
            rand_mirror=mirror,
            pad=pad,
            fill_value=127,
            seed=7,
            verbose=False,
            **asdict(preset),
        )
        images = [batch.data[0].asnumpy() for batch in batches]
    return np.concatenate(images).transpose(0, 2, 3, 1).astype(np.float32)


def photograph(height, width):
    small = np.random.RandomState(3).uniform(0, 255, (7, 9, 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "preset, shape",
    [
        (Augmentation(), (224, 224)),
        (Augmentation(min_random_scale=0.75, max_random_scale=0.75), (299, 299)),
        (Augmentation(min_random_scale=0.5, max_random_scale=0.5), (449, 448)),
    ],
)
def test_where_nothing_is_random_the_pixels_are_the_same(tmp_path, preset, shape):
    path = record_file(tmp_path, photograph(*shape))
    ours, mxnets = (read_by(backend, path, preset, 224, mirror=False) for backend in BACKENDS)
    differing = np.abs(ours - mxnets)
    assert not differing.any() or (WARPS_OTHERWISE and differing.max() == 1 and differing.mean() < 0.005)


def places(height, width):
    """An image whose red and green tell the column and the row, from 40 to 240, with blue 255; 127 is outside."""
    image = np.full((height, width, 3), 255, np.uint8)
    image[:, :, 0] = np.linspace(40, 240, width).round()
    image[:, :, 1] = np.linspace(40, 240, height)[:, None].round()
    return image


def measured(crops, height, width):
    """What each crop shows of ``places``: the (2, 3) map from its pixels to those of the image."""
    side = crops.shape[1]
    rows, columns = np.mgrid[0:side, 0:side]
    maps = []
    for crop in crops:
        inside = crop[:, :, 2] == 255
        pixels = np.column_stack([columns[inside], rows[inside], np.ones(inside.sum())])
        seen = np.column_stack(
            [(crop[:, :, k][inside] - 40) * (size - 1) / 200 for k, size in ((0, width), (1, height))]
        )
        maps.append(np.linalg.lstsq(pixels, seen, rcond=None)[0].T)
    return np.array(maps)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_crops_come_from_the_same_distribution(tmp_path, number):
    """Scale, aspect, angle and shear are in the linear part of the map, the place of the crop in the rest."""
    height, width = 200, 260
    path = record_file(tmp_path, places(height, width), SAMPLES)
    preset = replace(LEVELS[number], random_h=0, random_s=0, random_l=0)
    ours, mxnets = (measured(read_by(backend, path, preset, 64, batch_size=50), height, width) for backend in BACKENDS)
    assert (ours[:, 0, 0] < 0).mean() == pytest.approx(0.5, abs=0.08)
    assert (mxnets[:, 0, 0] < 0).mean() == pytest.approx(0.5, abs=0.08)
    for sample in (ours, mxnets):  # undo the mirror
        mirrored = sample[:, 0, 0] < 0
        sample[mirrored, :, 2] += sample[mirrored, :, 0] * 63
        sample[mirrored, :, 0] *= -1
    quantities = {
        "across": lambda m: np.hypot(m[:, 0, 0], m[:, 1, 0]),
        "down": lambda m: np.hypot(m[:, 0, 1], m[:, 1, 1]),
        "turn": lambda m: np.arctan2(m[:, 1, 0], m[:, 0, 0]).round(3),
        "slant": lambda m: np.arctan2(-m[:, 0, 1], m[:, 1, 1]).round(3),
        "left": lambda m: m[:, 0, 2],
        "top": lambda m: m[:, 1, 2],
        "centre": lambda m: m[:, 0] @ (31.5, 31.5, 1),
    }
    for name, quantity in quantities.items():
        p = ks_2samp(quantity(ours).round(2), quantity(mxnets).round(2)).pvalue
        assert p > SMALLEST_P, name


def test_padding_comes_from_the_same_distribution(tmp_path):
    path = record_file(tmp_path, places(32, 32), SAMPLES)
    samples = []
    for backend in BACKENDS:
        crops = read_by(backend, path, LEVELS[1], 32, pad=4, mirror=False, batch_size=50)
        outside = (crops == 127).all(axis=3)
        assert (outside | (crops[:, :, :, 2] == 255)).all()
        samples.append((outside.all(axis=1).sum(axis=1), outside.all(axis=2).sum(axis=1)))
    for ours, mxnets in zip(*samples):
        assert set(ours) == set(mxnets) == set(range(5))
        assert ks_2samp(ours, mxnets).pvalue > SMALLEST_P


@pytest.mark.parametrize("colour", [(200, 90, 60), (20, 30, 220), (128, 128, 128), (250, 250, 240)])
def test_colours_come_from_the_same_distribution(tmp_path, colour):
    path = record_file(tmp_path, np.full((40, 40, 3), colour, np.uint8), SAMPLES)
    preset = Augmentation(random_h=36, random_s=50, random_l=50)
    ours, mxnets = (read_by(backend, path, preset, 32, batch_size=50)[:, 0, 0] for backend in BACKENDS)
    for channel in range(3):
        assert ks_2samp(ours[:, channel], mxnets[:, channel]).pvalue > SMALLEST_P
    assert np.ptp(ours, axis=0).max() > 60


def test_a_crop_of_the_warp_is_the_warp_cropped():
    """The shortcut of augment.py, against warping the whole image as ImageRecordIter does."""
    image = photograph(150, 180)
    random = np.random.RandomState(0)
    for _ in range(50):
        draws = random.uniform(size=DRAWS)
        draws[6] = 1
        preset = replace(LEVELS[3], random_h=0, random_s=0, random_l=0)
        crop = augment(image, draws, preset, (64, 64), mirror=True)[:, :, ::-1]
        matrix, (height, width) = _warp(image.shape[:2], draws, preset)
        whole = cv2.warpAffine(image, matrix, (width, height), borderValue=(127,) * 3)
        top, left = int(draws[4] * (height - 63)), int(draws[5] * (width - 63))
        difference = cv2.absdiff(crop, whole[top : top + 64, left : left + 64])
        assert difference.max() <= 6  # OpenCV rounds places to 1/32 pixel
        assert difference.mean() < 0.3


@pytest.mark.parametrize("shape", [(20, 300), (10, 10), (300, 50)])
def test_an_image_too_small_for_the_crop_is_enlarged(shape):
    for seed in range(20):
        draws = np.random.RandomState(seed).uniform(size=DRAWS)
        crop = augment(np.full((*shape, 3), 200, np.uint8), draws, LEVELS[1], (64, 64))
        assert crop.shape == (64, 64, 3)
        assert (crop == 200).all()


def test_every_level_adds_to_the_one_before():
    presets = [asdict(LEVELS[number]) for number in (1, 2, 3)]
    changed = [{name for name in a if a[name] != b[name]} for a, b in zip(presets, presets[1:])]
    assert changed[0] == {"min_random_scale", "max_aspect_ratio", "random_h", "random_s", "random_l"}
    assert changed[1] == {"max_rotate_angle", "max_shear_ratio"}
    assert level(3, small_images=True).min_random_scale == 1


def test_mxnet_takes_the_presets_by_their_names(tmp_path):
    path = record_file(tmp_path, photograph(64, 64))
    iterator = mx.io.ImageRecordIter(
        path_imgrec=str(path), data_shape=(3, 32, 32), batch_size=1, verbose=False, **asdict(LEVELS[3])
    )
    assert next(iterator).data[0].shape == (1, 3, 32, 32)


@pytest.mark.skipif(WARPS_OTHERWISE, reason="OpenCV 5")
def test_the_pixels_are_the_same_under_every_numpy():
    """A run that is resumed under another Python sees the same images."""
    image = photograph(300, 400)
    draws = np.random.default_rng([0, 0, 1]).random((20, DRAWS), np.float32)
    crops = [augment(image, numbers, LEVELS[3], (64, 64)) for numbers in draws]
    assert hashlib.sha256(np.stack(crops).tobytes()).hexdigest()[:16] == "3c4adf4249b14a3d"


@pytest.mark.parametrize("shape", [(1, 400), (400, 1), (2, 3), (20_000, 300)])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_odd_images_are_cropped_or_told(shape, number):
    for seed in range(5):
        draws = np.random.RandomState(seed).uniform(size=DRAWS).astype(np.float32)
        try:
            assert augment(np.zeros((*shape, 3), np.uint8), draws, LEVELS[number], (64, 64)).shape == (64, 64, 3)
        except UserError as error:
            assert "too narrow" in str(error)
