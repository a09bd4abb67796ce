"""Small pictures: encoded, and in folders."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image, RGB."""
    small = np.random.RandomState(seed).uniform(0, 255, (6, 8, 3)).astype(np.float32)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()


def save(path: Path, seed: int = 0, size=(40, 56), mode: str = "RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photograph(*size, seed)).convert(mode).save(path, **options)
    return path


def save_classes(root: Path, **counts: int) -> Path:
    for name, count in counts.items():
        for number in range(count):
            save(root / name / f"{number:03d}.jpg", seed=number, size=(24 + number % 5, 30))
    return root
