"""The UCI handwritten digits as images and records."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.files import explaining_refusals
from mxnet_resnet.data.writer import RecordWriter

SIZE = 32


def enlarge(digit: np.ndarray) -> np.ndarray:
    """A digit (8, 8), 0..16, as an image (32, 32, 3), uint8, 0..255."""
    grey = cv2.resize(digit.astype(np.float32) * (255 / 16), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return cv2.cvtColor(grey.clip(0, 255).round().astype(np.uint8), cv2.COLOR_GRAY2RGB)


def write_split(out: Path, name: str, numbers: np.ndarray, images: np.ndarray, labels: np.ndarray) -> Path:
    """Write ``digits_{name}.rec``, ``.idx`` and ``.lst``, and the images themselves to ``out/name/``: gives the .rec.

    ``numbers`` (N,) choose among the images (M, 8, 8), 0..16, and labels (M,). Raises UserError.
    """
    prefix = out / f"digits_{name}"
    with explaining_refusals(out / name), RecordWriter(prefix) as writer:
        shutil.rmtree(out / name, ignore_errors=True)  # images of another split
        (out / name).mkdir()
        for number in map(int, numbers):
            file = f"{name}/{number:04d}-{labels[number]}.png"
            png = cv2.imencode(".png", enlarge(images[number]))[1].tobytes()
            (out / file).write_bytes(png)
            writer.write(number, float(labels[number]), png, file)
    return Path(f"{prefix}.rec")
