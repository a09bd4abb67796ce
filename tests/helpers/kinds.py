"""Encoded images of all kinds, with what they show."""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

TURNED = 6  # EXIF: to be turned by 90 degrees clockwise
SIDE = 40


def draw_motive() -> np.ndarray:
    """RGBA (H, W, 4), uint8, square, on which no channel and no corner is like another, and transparent in parts."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    alpha = np.full((SIDE, SIDE), 255)
    alpha[:10, :15], alpha[25:] = 0, 100
    return np.dstack([rows * 6, columns * 4, 250 - rows * 3 - columns * 2, alpha]).astype(np.uint8)


def put_on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[:, :, 3:] / 255
    return np.rint(rgba[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def encode(image: np.ndarray, form: str, mode: str | None = None, **options) -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(image)
    (picture.convert(mode) if mode else picture).save(file, form, **options)
    return file.getvalue()


def encode_deep(image: np.ndarray, ending: str) -> bytes:
    """With 16 bits a channel."""
    bgr = image if image.ndim == 2 else image[:, :, [2, 1, 0, 3][: image.shape[2]]]
    return cv2.imencode(ending, bgr.astype(np.uint16) * 257)[1].tobytes()


def encode_tiff(image: np.ndarray, photometric: int, extra: int, order: str = "<") -> bytes:
    """A TIFF whose last channel is what ``extra`` says: 1 transparency that the colours have, 2 that they have not."""
    height, width, channels = image.shape
    entries = {256: width, 257: height, 259: 1, 262: photometric, 273: 0, 277: channels, 278: height, 338: extra}
    bits = struct.pack(f"{order}{channels}H", *[8 * image.itemsize] * channels)
    behind = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries.update({273: behind + len(bits), 279: image.nbytes})
    rows = [(tag, 4, 1, struct.pack(f"{order}I", value)) for tag, value in entries.items() if tag != 338]
    rows.append((338, 3, 1, struct.pack(f"{order}HH", extra, 0)))
    rows.append((258, 3, channels, struct.pack(f"{order}I", behind) if len(bits) > 4 else bits.ljust(4, b"\0")))
    directory = b"".join(struct.pack(f"{order}HHI", *row[:3]) + row[3] for row in sorted(rows))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(rows))
    return head + directory + bytes(4) + bits + image.tobytes()


def encode_bmp(rgba: np.ndarray) -> bytes:
    """A BMP whose header says which byte is transparency."""
    height, width, _ = rgba.shape
    sizes = struct.pack("<IiiHHIIiiII", 108, width, -height, 1, 32, 3, rgba.size, 0, 0, 0, 0)
    masks = struct.pack("<IIII4s48x", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    return struct.pack("<2sIII", b"BM", 122 + rgba.size, 0, 122) + sizes + masks + rgba[:, :, [2, 1, 0, 3]].tobytes()


def encode_png(pixels: np.ndarray, colour: int, transparent: bytes) -> bytes:
    """A PNG of 16 bits a channel, (H, W) or (H, W, C), with one value that is transparent."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = ((b"IHDR", header), (b"tRNS", transparent), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def encode_kinds() -> dict[str, tuple[bytes, np.ndarray]]:
    """Encoded square images by what they are, each with its pixels, RGB (H, W, 3), uint8."""
    rgba = draw_motive()
    rgb, red, shown = rgba[:, :, :3].copy(), rgba[:, :, 0].copy(), put_on_white(rgba)
    grey = np.repeat(red[:, :, None], 3, axis=2)
    grey_shown = put_on_white(np.dstack([grey, rgba[:, :, 3]]))
    hidden = np.where(grey == red[5, 0], 255, grey).astype(np.uint8)  # one row of it
    colour_hidden = np.where((rgb == rgb[3, 4]).all(axis=2, keepdims=True), 255, rgb)
    premultiplied = np.dstack([np.rint(rgb * (rgba[:, :, 3:] / 255)).astype(np.uint8), rgba[:, :, 3]])
    turned = Image.Exif()
    turned[0x0112] = TURNED
    upright, shown_upright = (np.rot90(image, -1) for image in (rgb, shown))
    more = {"save_all": True, "append_images": [Image.fromarray(rgba[::-1].copy())]}
    webp = {"lossless": True, "exact": True}
    palette = Image.fromarray(rgb).quantize(64)
    file = io.BytesIO()
    palette.save(file, "PNG", transparency=7)
    of_palette = np.where(np.array(palette)[:, :, None] == 7, 255, np.array(palette.convert("RGB"))).astype(np.uint8)
    jpeg = encode(rgb, "JPEG", quality=95)
    jpeg_pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    jpeg_turned = encode(rgb, "JPEG", quality=95, exif=turned)
    gif = Image.open(io.BytesIO(encode(rgb, "GIF", **more)))
    return {
        "JPEG": (jpeg, jpeg_pixels),
        "JPEG, turned": (jpeg_turned, np.rot90(jpeg_pixels, -1)),
        "PNG": (encode(rgb, "PNG"), rgb),
        "PNG, turned": (encode(rgb, "PNG", exif=turned), upright),
        "PNG, 16 bits": (encode_deep(rgb, ".png"), rgb),
        "PNG, grey of 16 bits": (encode_deep(red, ".png"), grey),
        "PNG, RGBA": (encode(rgba, "PNG"), shown),
        "PNG, RGBA, turned": (encode(rgba, "PNG", exif=turned), shown_upright),
        "PNG, RGBA of 16 bits": (encode_deep(rgba, ".png"), shown),
        "PNG, grey with alpha": (encode(np.dstack([red, rgba[:, :, 3]]), "PNG"), grey_shown),
        "PNG, palette with transparency": (file.getvalue(), of_palette),
        "PNG, one transparent grey": (encode(red, "PNG", transparency=int(red[5, 0])), hidden),
        "PNG, one transparent colour": (encode(rgb, "PNG", transparency=tuple(map(int, rgb[3, 4]))), colour_hidden),
        "PNG, one transparent grey of 16 bits": (
            encode_png(red.astype(int) * 257, 0, struct.pack(">H", int(red[5, 0]) * 257)),
            hidden,
        ),
        "APNG": (encode(rgba, "PNG", **more), shown),
        "WebP": (encode(rgb, "WEBP", lossless=True), rgb),
        "WebP, RGBA": (encode(rgba, "WEBP", **webp), shown),
        "WebP, RGBA, turned": (encode(rgba, "WEBP", exif=turned, **webp), shown_upright),
        "WebP, turned": (encode(rgb, "WEBP", exif=turned, **webp), upright),
        "WebP, animated": (encode(rgba, "WEBP", **webp, **more), shown),
        "TIFF": (encode(rgb, "TIFF"), rgb),
        "TIFF, turned": (encode(rgb, "TIFF", tiffinfo={274: TURNED}), upright),
        "TIFF, 16 bits": (encode_deep(rgb, ".tif"), rgb),
        "TIFF, grey of 16 bits": (encode_deep(red, ".tif"), grey),
        "TIFF, RGBA": (encode(rgba, "TIFF"), shown),
        "TIFF, RGBA, turned": (encode(rgba, "TIFF", tiffinfo={274: TURNED}), shown_upright),
        "TIFF, RGBA of 16 bits": (encode_deep(rgba, ".tif"), shown),
        "TIFF, RGBA, big end first": (encode_tiff(rgba, 2, 2, ">"), shown),
        "TIFF, colours that have their alpha": (encode_tiff(premultiplied, 2, 1), shown),
        "TIFF, a fourth channel of no meaning": (encode_tiff(rgba, 2, 0), rgb),
        "TIFF, grey with alpha": (encode_tiff(np.dstack([red, rgba[:, :, 3]]), 1, 2), grey_shown),
        "BMP": (encode(rgb, "BMP"), rgb),
        "BMP, RGBA": (encode_bmp(rgba), shown),
        "BMP, a fourth byte of no meaning": (encode(rgba, "BMP"), rgb),
        "GIF": (encode(rgb, "GIF", **more), np.array(gif.convert("RGB"))),
        "PPM": (encode(rgb, "PPM"), rgb),
        "PGM": (encode(red, "PPM"), grey),
    }
