"""Random images of record files in one picture, for a look at them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mxnet_resnet.base.files import replacing
from mxnet_resnet.data.check import Report
from mxnet_resnet.data.decoding import decode
from mxnet_resnet.data.recordio import RecordFile

ROWS = COLUMNS = 8
CELL, CAPTION = 128, 20  # pixels


def draw_sheet(reports: list[Report], out: Path, seed: int) -> None:
    """Draw some random images, each over its label and the number of its record (behind that of its file)."""
    sizes = [len(report.numbers) for report in reports]
    ends = np.cumsum(sizes)
    chosen = np.random.default_rng(seed).choice(ends[-1], min(ROWS * COLUMNS, ends[-1]), replace=False)
    sheet = np.full((-(-len(chosen) // COLUMNS) * (CELL + CAPTION), COLUMNS * CELL, 3), 255, np.uint8)
    for place, number in enumerate(sorted(chosen)):
        file = int(np.searchsorted(ends, number, side="right"))
        report, i = reports[file], int(number - ends[file] + sizes[file])
        record = RecordFile(report.path, report.offsets).read(i)
        top, left = place // COLUMNS * (CELL + CAPTION), place % COLUMNS * CELL
        _draw_image(sheet[top : top + CELL, left : left + CELL], decode(record.image))
        text = f"{f'{file + 1}: ' if len(reports) > 1 else ''}{record.label:.0f} #{report.numbers[i]}"
        cv2.putText(sheet, text, (left + 4, top + CELL + 13), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    with replacing(out) as (temporary,):
        temporary.write_bytes(cv2.imencode(".png", sheet[:, :, ::-1])[1].tobytes())


def _draw_image(cell: np.ndarray, image: np.ndarray) -> None:
    """Draw an image at the bottom of a cell, as large as there is room with a margin of 2 pixels."""
    scale = (CELL - 4) / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    cell[CELL - 2 - height : CELL - 2, 2 : 2 + width] = cv2.resize(image, (width, height), interpolation=interpolation)
