"""mxnet_resnet.data.transform: crops, and images that are of unusual kinds, cut or damaged."""

from __future__ import annotations

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import inputs, transform


def test_crops_are_where_they_should_be(photo):
    shape = (3, 20, 24)
    image = photo[:30, :40]
    short = cv2.resize(image, (32, 24), interpolation=cv2.INTER_LINEAR)  # 24 is the longer side of the crop
    ten = transform.crops(image, shape, "ten")
    assert ten.shape == (10, 20, 24, 3)
    corners = [short[:20, :24], short[:20, -24:], short[-20:, :24], short[-20:, -24:], short[2:22, 4:28]]
    for found, expected in zip(ten, corners):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(ten[5:], ten[:5, :, ::-1])
    np.testing.assert_array_equal(transform.crops(image, shape), ten[4:5])
    np.testing.assert_array_equal(transform.crops(image, shape, "squash")[0], cv2.resize(image, (24, 20)))


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def photographs(photo: np.ndarray) -> dict[str, tuple[bytes, np.ndarray]]:
    """Encoded images of unusual kinds, with what they show, RGB."""
    rgb = photo[:, :, ::-1]
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    grey = np.repeat(photo[:, :, :1], 3, axis=2)
    seen_through = np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])
    seen_through[:10, :, 3] = 0
    on_white = rgb.copy()
    on_white[:10] = 255
    turned = [picture.rotate(180)]
    return {
        "grey": (cv2.imencode(".png", photo[:, :, 0])[1].tobytes(), grey),
        "16 bits": (cv2.imencode(".png", photo.astype(np.uint16) * 257)[1].tobytes(), rgb),
        "16 bits of grey": (cv2.imencode(".tif", photo[:, :, 0].astype(np.uint16) * 257)[1].tobytes(), grey),
        "RGBA": (encoded(Image.fromarray(seen_through), "PNG"), on_white),
        "CMYK": (encoded(picture.convert("CMYK"), "JPEG", quality=95), rgb),
        "GIF": (encoded(picture, "GIF", save_all=True, append_images=turned), rgb),
        "WebP": (encoded(picture, "WEBP", lossless=True, save_all=True, append_images=turned), rgb),
        "APNG": (encoded(picture, "PNG", save_all=True, append_images=turned), rgb),
    }


def test_unusual_images_look_as_they_should(photo):
    for kind, (data, expected) in photographs(photo).items():
        found = transform.photograph(data, kind)
        assert found.shape == expected.shape and found.dtype == np.uint8, kind
        assert np.abs(found.astype(int) - expected).mean() < 12, kind


@pytest.mark.parametrize("ending", [".jpg", ".png", ".gif", ".webp"])
def test_cut_images_are_not_made_up(photo, ending):
    picture = Image.fromarray(np.ascontiguousarray(photo[:, :, ::-1]))
    data = encoded(picture, {".jpg": "JPEG", ".png": "PNG", ".gif": "GIF", ".webp": "WEBP"}[ending])
    assert transform.photograph(data, "whole").shape == (60, 80, 3)
    for size in (0, 1, 10, len(data) // 2, len(data) - 30):
        with pytest.raises(UserError, match="cut does not decode"):
            transform.photograph(data[:size], "cut")


def test_a_thumbnail_is_not_the_end_of_a_jpeg(photo):
    small = cv2.imencode(".jpg", photo[:16, :16])[1].tobytes()
    data = cv2.imencode(".jpg", photo)[1].tobytes()
    held = b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small
    data = data[:2] + held + data[2:]
    assert transform.photograph(data, "whole").shape == (60, 80, 3)
    with pytest.raises(UserError, match="cut short"):
        transform.photograph(data[:-40], "cut")


def test_damaged_images_are_images_or_reported(photo):
    """Random bytes, cuts, flipped bits and changed bytes: an image or a sentence, and never anything else."""
    random = np.random.RandomState(0)
    picture = Image.fromarray(np.ascontiguousarray(photo[:, :, ::-1]))
    sources = [encoded(picture, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM")]
    outcomes = {True: 0, False: 0}
    for trial in range(600):
        data = bytearray(sources[trial % len(sources)])
        kind = trial % 4
        if kind == 0:
            data = bytearray(data[: random.randint(4)] + random.bytes(random.randint(1, 300)))
        elif kind == 1:
            data = data[: random.randint(len(data))]
        else:
            for _ in range(random.randint(1, 6)):
                place = random.randint(min(len(data), 120) if kind == 2 else len(data))
                data[place] ^= 1 << random.randint(8)
        try:
            image = transform.photograph(bytes(data), "damaged")
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
            outcomes[True] += 1
        except UserError as error:
            assert str(error).startswith("damaged") and "\n" not in str(error)
            outcomes[False] += 1
    assert min(outcomes.values()) > 50


def test_a_pipe_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (found,) = inputs.find([str(tmp_path / "pipe.png")])
    with pytest.raises(UserError, match="not a file"):
        found.read()


@pytest.mark.parametrize(
    "ending, mode, black, more",
    [
        ("png", "P", 0, {"transparency": 0}),
        ("png", "RGB", (0, 0, 0), {"transparency": (0, 0, 0)}),
        ("png", "RGBA", (0, 0, 0, 0), {}),
        ("webp", "RGBA", (0, 0, 0, 0), {"lossless": True, "exact": True}),
        ("tiff", "RGBA", (0, 0, 0, 0), {}),
    ],
)
def test_what_is_transparent_is_white(tmp_path, ending, mode, black, more):
    path = tmp_path / f"a.{ending}"
    Image.new(mode, (8, 8), black).save(path, **more)
    assert transform.read_image(path).min() == 255
