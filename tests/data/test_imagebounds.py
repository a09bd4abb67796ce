"""Images that claim or hide much: each is refused by what it says of itself, before a decoder takes memory or time."""

from __future__ import annotations

import glob
import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import decoding, folders, imagebounds, imageheader, imageparts, inputs, recordio
from tests.helpers.recordfiles import write_records


def encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


BLANK = Image.new("RGB", (32, 16), (200, 100, 50))


@pytest.fixture(autouse=True)
def bound():
    yield
    imagebounds.allow(None)


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = bytes(4000)) -> bytes:
    """A TIFF of (tag, kind, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


def grey_tiff(*more: tuple[int, int, int, int], width: int = 16, kind: int = 4) -> bytes:
    tags = [(256, kind, 1, width), (257, kind, 1, width), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), *more]
    at = 14 + 12 * (len(tags) + 4)
    return tiff(sorted([*tags, (273, 4, 1, at), (277, 3, 1, 1), (278, 4, 1, width), (279, 4, 1, width**2)]))


def gif(screen: tuple[int, int], frame: tuple[int, int], extensions: bytes = b"") -> bytes:
    data = bytearray(encode(BLANK.convert("P"), "GIF"))
    head = 13 + (6 << (data[10] & 7))
    data[6:10] = struct.pack("<HH", *screen)
    at = data.index(b",", head)
    data[at + 5 : at + 9] = struct.pack("<HH", *frame)
    return bytes(data[:head]) + extensions + bytes(data[head:])


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def many_scans(count: int) -> bytes:
    data = encode(BLANK, "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + b"\xff\xd9"


JPEG = encode(BLANK, "JPEG")
HOSTILE = {
    "a JPEG of many scans": (lambda: many_scans(101), "more than 100 scans"),
    "a JPEG without a size": (lambda: b"\xff\xd8" + b"\xff" * 3_000_000 + b"\0\xff\xd9", "does not say how large"),
    "a JPEG of no rows": (lambda: JPEG.replace(struct.pack(">HH", 16, 32), bytes(4)), "does not say how large"),
    "an image of a GIF beyond its screen": (lambda: gif((1, 1), (60000, 60000)), "claim 60000x60000 pixels"),
    "a GIF of a large screen": (lambda: gif((40000, 40000), (8, 8)), "claim 40000x40000 pixels"),
    "signed sides": (lambda: grey_tiff(width=30000, kind=9), "claim 30000x30000 pixels"),
    "sides of a kind of their own": (lambda: grey_tiff(width=30000, kind=13), "claim 30000x30000 pixels"),
    "sides of no whole number": (lambda: grey_tiff(kind=2), "does not say how large"),
    "two widths": (lambda: grey_tiff((256, 4, 1, 30000)), "has a tag twice"),
    "tags that share bytes": (lambda: grey_tiff(*((1000 + n, 7, 4000, 8) for n in range(50))), "claim more bytes"),
    "tags of more bytes than there are": (lambda: grey_tiff((700, 1, 0x7FFFFFFF, 8)), "claim more bytes"),
    "a tile": (lambda: grey_tiff((322, 4, 1, 16384), (323, 4, 1, 16384)), "in a tile, .* 16384x16384 pixels"),
    "a compression of its own": (
        lambda: grey_tiff().replace(struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 34925)),
        "the compression 34925",
    ),
    "a comment that ends otherwise": (lambda: b"P6 #\r30000 30000 #\n1 1 255\n" + bytes(99), "claim 30000x30000"),
    "zeros before a side": (lambda: b"P5 00000030000 0000000030000 255\n" + bytes(99), "claim 30000x30000 pixels"),
    "a header of spaces": (lambda: b"P6" + b" " * 3_000_000 + b"1 1 255\nabc", "does not say how large"),
    "a few bytes of many pixels": (
        lambda: b"RIFF\x1e\0\0\0WEBPVP8L\x11\0\0\0\x2f" + struct.pack("<I", 8191 | 8191 << 14) + bytes(13),
        "claim 8192x8192 pixels, and 10,000 a byte",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_image_is_refused_by_what_it_says_of_itself(name, monkeypatch):
    monkeypatch.setattr(decoding, "_imdecode", lambda *_: pytest.fail("it was decoded"))
    monkeypatch.setattr(decoding, "_decode_with_pillow", lambda *_: pytest.fail("it was decoded"))
    make, reason = HOSTILE[name]
    with pytest.raises(decoding.ImageError, match=f"^does not decode: .*{reason}"):
        decoding.decode_bgr(make())


def test_what_is_like_these_and_good_is_read():
    expected = np.asarray(BLANK)
    compressed = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(1000))) + chunk(b"iTXt", b"x\0\0\0\0\0yes")
    png = encode(BLANK, "PNG")
    assert len(imageparts.drop_texts(png[:33] + compressed * 3 + png[33:])) == len(png)
    for data in (png[:33] + compressed * 3 + png[33:], encode(BLANK, "PPM").replace(b"P6\n", b"P6\n# 9 9\r#\n0")):
        np.testing.assert_array_equal(decoding.decode(data), expected)
    assert decoding.decode(grey_tiff()).shape == (16, 16, 3)
    assert abs(decoding.decode(many_scans(50)).astype(int) - expected).max() < 40
    thumbnails = b"\xff\xe1" + struct.pack(">H", 402) + b"\xff\xda" * 200
    for data in (JPEG[:2] + thumbnails + JPEG[2:], JPEG + b"\xff\xda" * 200):  # which are no scans of it
        np.testing.assert_array_equal(decoding.decode(data), decoding.decode(JPEG))


@pytest.mark.parametrize(
    "extension", [b"\x21\xfe" + (b"\xff" + b"x" * 255) * 30_000 + b"\0", b"\x21\xfe\x01x\0" * 300_000]
)
def test_comments_of_a_gif_are_passed_over(extension):
    data = gif((32, 16), (32, 16), extension)
    np.testing.assert_array_equal(decoding.decode(data), decoding.decode(gif((32, 16), (32, 16))))
    assert len(imageparts.cut_gif(data)[0]) < 2000
    assert imageparts.cut_gif(data[:9000])[0].endswith(b";")  # no image is left


def test_a_small_image_may_be_blank_and_the_flag_allows_more():
    blank = Image.new("1", (4096, 4096))
    small = encode(blank.convert("RGB"), "WEBP", lossless=True)
    assert imagebounds.DENSEST * len(small) < 4096**2
    assert decoding.decode(small).shape == (4096, 4096, 3)
    large = encode(Image.new("RGB", (5000, 5000)), "WEBP", lossless=True)
    with pytest.raises(decoding.ImageError, match=r"10,000 a byte .*: --max-pixels 25000000 allows it"):
        decoding.decode(large)
    imagebounds.allow(25_000_000)
    assert decoding.decode(large).shape == (5000, 5000, 3)
    imagebounds.allow(4096**2 - 1)
    with pytest.raises(decoding.ImageError, match=r"4096x4096 pixels, and 16,777,215 are the most .*--max-pixels"):
        decoding.decode(small)


def test_a_jpeg_for_the_reader_of_mxnet_has_the_bound_too(tmp_path):
    large = JPEG.replace(struct.pack(">HH", 16, 32), struct.pack(">HH", 60000, 60000))
    late = JPEG[:2] + (b"\xff\xfe" + struct.pack(">H", 2000) + bytes(1998)) + JPEG[2:]
    for data, good in ((late, True), (large, False), (late[:2002] + large[2:], False)):
        path = write_records(tmp_path / "a.rec", [JPEG, data])
        summary = recordio.scan(path)
        if good:
            recordio.check_plain(path, summary, "mxnet")
        else:
            with pytest.raises(UserError, match=r"a.rec, record 1, byte \d+: the image does not decode: .*60000x60000"):
                recordio.check_plain(path, summary, "mxnet")


def test_sixteen_bits_and_transparency_are_as_before(tmp_path):
    """In strips: more rows than one has, with what shows through in some of them alone."""
    rows = 2 * decoding.STRIP + 10
    layers = np.random.RandomState(0).randint(0, 2**16, (rows, 5, 4)).astype(np.uint16)
    layers[: decoding.STRIP, :, 3] = 65535
    found = decoding.decode_bgr(cv2.imencode(".png", layers)[1].tobytes())
    small = (layers >> 8).astype(int)
    expected = (small[:, :, :3] * small[:, :, 3:] + 255 * (255 - small[:, :, 3:]) + 127) // 255
    np.testing.assert_array_equal(found, expected)


def test_links_that_multiply_are_followed_some_ways(tmp_path, capsys):
    for number in range(14):
        (tmp_path / f"{number:02d}").mkdir()
        BLANK.save(tmp_path / f"{number:02d}/x.png")
        for name in "ab" if number else "":
            os.symlink(f"../{number - 1:02d}", tmp_path / f"{number:02d}/{name}")
    os.symlink(".", tmp_path / "00/itself")
    listed = folders.list_folder(tmp_path, {".png"}, recursive=True)
    assert 14 < len(listed.lines) <= 14 * (folders.MOST_WAYS + 1)
    assert any(f"in more than {folders.MOST_WAYS} ways" in note for note in listed.notes)
    for source in (str(tmp_path), f"{tmp_path}/**/*.png"):
        assert len(list(inputs.find([source]))) == len(listed.lines)
        assert "ways, which are not followed further" in capsys.readouterr().err


def test_two_stars_are_as_those_of_glob(tmp_path):
    for name in ("a/b/c/x.png", "a/x.png", "a/.hidden/x.png", "a/b/.x.png", "x.png", "a/b/y.PNG", "b/.c/d/x.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for pattern in (
        "**/*.png",
        "a/**/x.png",
        "*/**/*.png",
        "**",
        "**/b/**/*.png",
        "a/**/.x.png",
        "b/.c/**/*.png",
        "**/a",
    ):
        source = f"{tmp_path}/{pattern}"
        expected = {path for path in glob.glob(source, recursive=True) if os.path.normpath(path) != str(tmp_path)}
        assert {os.path.normpath(path) for path in inputs._glob(source)} == {*map(os.path.normpath, expected)}, pattern


def test_no_format_is_read_that_is_not_listed():
    for name in ("JPEG2000", "ICO", "TGA", "PCX"):
        data = encode(BLANK, name)
        assert imageheader.find_format(data) not in imageheader.FORMATS
        with pytest.raises(decoding.ImageError, match=r"and what is read is|not an image of a format read"):
            decoding.decode(data)
