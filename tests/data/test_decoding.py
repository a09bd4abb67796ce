"""mxnet_resnet.data.decoding: each kind of image looks the same to whatever reads it; what is refused, and why."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import decoding, imageheader, imageparts, inputs, recordio, stored, survey
from mxnet_resnet.data.augment import LEVELS
from mxnet_resnet.data.encoder import Encoder
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords
from mxnet_resnet.data.transform import read_image
from mxnet_resnet.data.writer import RecordWriter
from mxnet_resnet.use import samples
from tests.helpers.kinds import SIDE, encode, encode_kinds, encode_tiff
from tests.helpers.pictures import jpeg, photograph

KINDS = encode_kinds()
SHAPE = (3, SIDE, SIDE)


def write_record(folder: Path, image: bytes) -> Path:
    with RecordWriter(folder / "a") as writer:
        writer.write(0, 0.0, image, "a")
    return folder / "a.rec"


def train(path: Path) -> np.ndarray:
    (batch,) = training_records(path).epoch(0)
    return batch.images[0].transpose(1, 2, 0)


def training_records(path: Path) -> TrainingRecords:
    return TrainingRecords(path, recordio.scan(path), SHAPE, 1, LEVELS[1], 0, False, seed=0)


def validation_records(path: Path) -> ValidationRecords:
    return ValidationRecords(path, recordio.scan(path), SHAPE, 1)


def validate(path: Path) -> np.ndarray:
    (batch,) = validation_records(path).read()
    return batch.images[0].transpose(1, 2, 0)


def evaluate(path: Path) -> np.ndarray:
    ((images, _),) = samples.take_all(path, 1).batches(SHAPE, "center", 1)
    return images[0, 0]


def predict(path: Path) -> np.ndarray:
    (found,) = inputs.find([str(path)])
    return found.read()


ENTRIES = {
    "training": train,
    "validation": validate,
    "stored training": lambda path: stored.store_training(training_records(path), 1 << 20).pixels[0],
    "stored validation": lambda path: stored.store_validation(validation_records(path), 1 << 20).pixels[0],
    "evaluation": evaluate,
    "prediction": predict,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_looks_the_same_to_whatever_reads_it(tmp_path, kind):
    data, expected = KINDS[kind]
    (tmp_path / "image").write_bytes(data)
    made = Encoder(encoding=".png", quality=1).read(tmp_path / "image")
    seen = {"prediction of the file": read_image(tmp_path / "image"), "a record made of it": decoding.decode(made)}
    path = write_record(tmp_path, Encoder(pass_through=True).read(tmp_path / "image"))
    seen.update({name: read(path) for name, read in ENTRIES.items()})
    for name, image in seen.items():
        np.testing.assert_allclose(image.astype(int), expected, atol=1, err_msg=name)  # of rounding
        np.testing.assert_array_equal(image, seen["prediction of the file"], err_msg=name)
    (found,) = (item for item in survey.survey(path.read_bytes(), path))
    assert survey.examine(found).sums[0] == expected.reshape(-1, 3).sum(axis=0).tolist() or "TIFF" in kind


def test_plain_images_are_read_to_the_bit_as_opencv_reads_them(shared):
    for path in sorted((shared / "imagenet_samples/images").iterdir())[::10]:
        data = path.read_bytes()
        assert decoding.is_plain(data)
        np.testing.assert_array_equal(decoding.decode_bgr(data), cv2.imread(str(path)))


def test_what_is_plain_is_not_looked_at_twice():
    plain = {kind for kind, (data, _) in KINDS.items() if decoding.is_plain(data)}
    assert {"JPEG", "PNG", "PNG, 16 bits", "TIFF", "PPM"} <= plain
    assert not any(word in kind for kind in plain for word in ("alpha", "RGBA", "transparen", "GIF", "WebP"))


@pytest.mark.parametrize(
    "name, data",
    [
        ("JPEG 2000", cv2.imencode(".jp2", photograph(64, 64))[1].tobytes()),
        ("JPEG 2000", b"\xff\x4f\xff\x51\0\x29" + bytes(60)),
        ("AVIF", b"\0\0\0\x20ftypavif" + bytes(60)),
        ("HEIC", b"\0\0\0\x20ftypheic" + bytes(60)),
        ("Radiance HDR", cv2.imencode(".hdr", photograph(8, 8).astype(np.float32))[1].tobytes()),
    ],
)
def test_a_format_that_is_not_on_the_list_is_refused_everywhere(tmp_path, name, data):
    """Whatever it is called: a decoder that is not needed has no door."""
    message = f"does not decode: it is {name}, and what is read is JPEG, PNG, GIF, BMP, WebP, TIFF, PNM"
    assert_refused_everywhere(tmp_path, data, message)


def assert_refused_everywhere(folder: Path, data: bytes, message: str) -> None:
    """With one sentence on all ways in."""
    (folder / "a.jpg").write_bytes(data)
    path = write_record(folder, data)
    assert Encoder().read(folder / "a.jpg") == Encoder(pass_through=True).read(folder / "a.jpg") == message
    for read in (lambda path: recordio.scan(path, decoding=True), *ENTRIES.values()):
        with pytest.raises(UserError, match=message):
            read(path)
    with pytest.raises(UserError, match=f"a.jpg {message}"):
        read_image(folder / "a.jpg")


GREY = np.arange(48).reshape(6, 8)


@pytest.mark.parametrize(
    "data, reason",
    [
        (encode(GREY.astype(np.float32), "TIFF"), "its values are fractions of 32 bits"),
        (cv2.imencode(".tif", np.dstack([GREY / 48] * 3).astype(np.float32))[1].tobytes(), "fractions of 32 bits"),
        (cv2.imencode(".tif", GREY / 48)[1].tobytes(), "its values are fractions of 64 bits"),
        (encode(GREY.astype(np.int32), "TIFF"), "its values are signed numbers of 32 bits"),
        (encode_tiff(np.dstack([GREY] * 3).astype(np.uint32), 2, 0), "its values are whole numbers of 32 bits"),
        (encode_tiff(np.dstack([GREY] * 2).astype(np.uint16), 1, 2), "it is a TIFF of 16-bit grey with transparency"),
    ],
)
def test_a_tiff_whose_values_are_no_colours_is_refused_everywhere(tmp_path, data, reason):
    try:
        decoding.decode(data)
    except decoding.ImageError as error:
        assert reason in str(error) and ": save it with " in str(error)
        assert_refused_everywhere(tmp_path, data, str(error))
    else:
        pytest.fail("it decodes")


def test_headers_tell_the_size_of_each_kind():
    for kind, (data, expected) in KINDS.items():
        assert imageheader.stored_shape(data)[:2] == expected.shape[1::-1], kind
        for cut in range(0, min(200, len(data)), 3):
            imageheader.stored_shape(data[:cut])
            imageparts.read_tags(data[:cut])


def test_one_bound_on_the_size_for_all():
    """Whatever the format: the memory is not taken."""
    wide = 1 << 14
    headers = {
        "GIF": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(60000),
        "BMP": b"BM" + bytes(12) + struct.pack("<Iii", 40, 1 << 15, -(1 << 15)) + bytes(120000),
        "WebP": b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f" + struct.pack("<I", (wide - 1) | (wide - 1) << 14) + bytes(9),
        "TIFF": b"II*\0\x08\0\0\0\x02\0" + struct.pack("<HHIIHHII", 256, 4, 1, 1 << 16, 257, 4, 1, 1 << 16) + bytes(9),
        "PNM": b"P6 # a comment\n 70000 70000 255\n" + bytes(600000),
    }
    for name, data in headers.items():
        assert imageheader.find_format(data) == name
        with pytest.raises(decoding.ImageError, match=r"does not decode: its .* bytes claim \d+x\d+ pixels"):
            decoding.decode(data)


def test_a_jpeg_without_an_end_is_refused_by_all(tmp_path):
    """OpenCV makes up the rest of one that ends in zeros."""
    data = jpeg(photograph(40, 40))[:-400] + bytes(400)
    path = write_record(tmp_path, data)
    for read in ENTRIES.values():
        with pytest.raises(UserError, match="cut short"):
            read(path)
