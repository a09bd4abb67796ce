"""Image files to the images of records."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base import sources
from mxnet_resnet.data.decoding import ImageError, decode_bgr
from mxnet_resnet.data.transform import LARGEST_SIDE, sides_for


@dataclass(frozen=True)
class Encoder:
    """Image files to the images of records.

    Attributes:
        resize: pixels of the short side, 0 to keep the size.
        quality: of JPEG, 1 to 100, or the compression of PNG, 0 to 9.
        encoding: ".jpg" or ".png".
        center_crop: cut the image to a square first.
        pass_through: keep the bytes of the file, if it decodes.
    """

    resize: int = 0
    quality: int = 95
    encoding: str = ".jpg"
    center_crop: bool = False
    pass_through: bool = False

    def read(self, path: Path) -> bytes | str:
        """The bytes for the record, or the reason why there are none."""
        if reason := explain_no_file(path):
            return reason
        try:
            data = path.read_bytes()
        except OSError as error:
            return str(error.strerror)
        try:
            image = decode_bgr(data)
        except ImageError as error:
            return str(error)
        return data if self.pass_through else self.encode(image)

    def encode(self, image: np.ndarray) -> bytes | str:
        """A BGR image (H, W, 3), uint8, encoded, or the reason why it is not."""
        height, width = image.shape[:2]
        short = min(height, width)
        if self.center_crop:
            top, left = (height - short) // 2, (width - short) // 2
            image = image[top : top + short, left : left + short]
            height = width = short
        if self.resize:
            size = sides_for(height, width, self.resize)
            if max(size) > LARGEST_SIDE:
                return f"{width}x{height} pixels are too narrow to be made {self.resize} pixels wide"
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        flag = cv2.IMWRITE_JPEG_QUALITY if self.encoding == ".jpg" else cv2.IMWRITE_PNG_COMPRESSION
        done, data = cv2.imencode(self.encoding, image, [flag, self.quality])
        return data.tobytes() if done else f"{width}x{height} pixels are too many for {self.encoding}"


def explain_no_file(path: Path) -> str:
    """Why nothing can be read from ``path``, or nothing. A pipe would be waited for without end."""
    most = sources.LARGEST_IMAGE // sources.MEBIBYTE
    if os.path.isfile(path):  # where Path.is_file raises (a name too long), this is False
        return f"more than {most} MiB" if os.path.getsize(path) > sources.LARGEST_IMAGE else ""
    return "a folder" if os.path.isdir(path) else "not a file" if os.path.exists(path) else "no such file"
