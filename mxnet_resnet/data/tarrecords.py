"""Records made from the images in a tar, in several sizes at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from mxnet_resnet.base.ahead import compute_ahead
from mxnet_resnet.base.files import replacing
from mxnet_resnet.base.progress import progress
from mxnet_resnet.data.decoding import ImageError, decode
from mxnet_resnet.data.tars import TarImages
from mxnet_resnet.data.transform import LARGEST_SIDE, sides_for
from mxnet_resnet.data.writer import RecordWriter


def encode_version(image: np.ndarray, short: int, quality: int) -> bytes | None:
    """An RGB image as a JPEG with a short side of ``short`` pixels, enlarged if need be, as MXNet's im2rec does.

    None where it is so narrow that OpenCV refuses.
    """
    height, width = image.shape[:2]
    size = sides_for(height, width, short)
    if max(size) > LARGEST_SIDE:
        return None
    bgr = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def write_records(images: TarImages, prefix: Path, sizes: list[int], quality: int, workers: int) -> None:
    """Write ``PREFIX_{size}_q{quality}.rec`` of each size, with .idx and .lst, going on with what an interrupt left.

    An image is read and decoded once for all sizes. What cannot be used is listed in ``.unreadable.txt``. Raises
    UserError where the tar cannot be read or the system does not write.
    """
    prefixes = {size: prefix.with_name(f"{prefix.name}_{size}_q{quality}") for size in sizes}
    settings = {"images": hashlib.sha256(images.table.tobytes()).hexdigest(), "quality": quality}
    missing = {size: path for size, path in prefixes.items() if not _is_made(path, settings)}
    with images.tar.open("rb") as file:
        with ExitStack() as stack:
            entered = {size: stack.enter_context(RecordWriter(path, settings)) for size, path in missing.items()}
            if entered:
                versions = partial(_encode_versions, images, file, list(entered), quality)
                _fill(entered, images, versions, prefix.name, workers)
        for made in missing.values():
            note, text = _note(made, settings)
            with replacing(note) as (path,):
                path.write_text(text)
        for size, made in prefixes.items():
            _report(images, file, made, size)


def _fill(
    writers: dict[int, RecordWriter],
    images: TarImages,
    encode: Callable[[int], dict[int, bytes | None]],
    name: str,
    workers: int,
) -> None:
    lasts = {size: -1 if writer.last_key is None else writer.last_key for size, writer in writers.items()}
    start = min(lasts.values()) + 1
    cv2.setNumThreads(1)  # threads that have an image each use the cores better
    print(f"{name}: {len(images):,} images to {' and '.join(map(str, writers))} pixels, from number {start:,} on")
    with closing(compute_ahead(encode, range(start, len(images)), workers)) as results:
        for number, versions in progress(results, name, len(images), start):
            for size, writer in writers.items():
                image = versions[size]
                if image is not None and number > lasts[size]:
                    writer.write(number, float(images.table["label"][number]), image, images.name(number))


def _encode_versions(
    images: TarImages, file: BinaryIO, sizes: list[int], quality: int, number: int
) -> dict[int, bytes | None]:
    try:
        image = decode(images.read(file, number))
    except ImageError:  # which the report explains
        return dict.fromkeys(sizes)
    return {size: encode_version(image, size, quality) for size in sizes}


def _note(prefix: Path, settings: dict[str, object]) -> tuple[Path, str]:
    """The file that says that the records were finished, and what is in it if they were with these settings."""
    files = [prefix.with_name(prefix.name + suffix) for suffix in (".rec", ".idx", ".lst")]
    sizes = [file.stat().st_size if file.is_file() else None for file in files]
    return prefix.with_name(f".{prefix.name}.made.json"), json.dumps({**settings, "sizes": sizes})


def _is_made(prefix: Path, settings: dict[str, object]) -> bool:
    note, text = _note(prefix, settings)
    return note.is_file() and note.read_text() == text


def _report(images: TarImages, file: BinaryIO, prefix: Path, size: int) -> None:
    """Print how many records there are, and list the images that are not among them, with the reason."""
    left_out = np.ones(len(images), bool)
    with prefix.with_name(f"{prefix.name}.idx").open("rb") as index:
        for line in index:
            left_out[int(line.split(b"\t", 1)[0])] = False
    numbers = np.flatnonzero(left_out).tolist()
    report = prefix.with_name(f"{prefix.name}.unreadable.txt")
    reasons = [_explain_image(images, file, number, size) for number in numbers]
    with replacing(report) as (path,):
        path.write_text("".join(f"{images.name(number)}\t{reason}\n" for number, reason in zip(numbers, reasons)))
    left = f", {len(numbers):,} left out: see {report}" if numbers else ""
    print(f"{prefix}.rec: {len(images) - len(numbers):,} images{left}")


def _explain_image(images: TarImages, file: BinaryIO, number: int, size: int) -> str:
    """Why there is no record of an image."""
    try:
        decode(images.read(file, number))
    except ImageError as error:
        return str(error)
    return f"is too narrow to be {size} pixels wide"
