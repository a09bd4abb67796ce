"""NVIDIA DALI on the same records and the same cores, without a GPU: its own operators, at the same crop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nvidia.dali import fn, pipeline_def, types

from benchmarks.io_readers import BATCH_SIZE, Reader, Workload
from mxnet_resnet.data.augment import FILL

LIGHTNESS, SATURATION, HUE = 0.4, 0.4, 72.0  # as far as level 2 shifts colours; hue in degrees


def make_reader(workload: Workload, path: Path, threads: int) -> Reader:
    """Epochs by threads that stay, and have been started."""
    pipeline = make_pipeline(workload, path, batch_size=BATCH_SIZE, num_threads=threads, device_id=None)
    pipeline.build()
    batches = -(-pipeline.epoch_size("records") // BATCH_SIZE)

    def read() -> Iterator[Any]:
        for _ in range(batches):
            yield pipeline.run()

    for _ in read():
        pass
    return read


@pipeline_def
def make_pipeline(workload: Workload, path: Path) -> tuple[Any, Any]:
    """Images (N, 3, H, W), uint8, and labels."""
    index = str(path.with_suffix(".idx"))
    encoded, labels = fn.readers.mxnet(path=[str(path)], index_path=[index], random_shuffle=True, name="records")
    images = crop(workload, encoded)
    if workload.preset.colours:
        images = fn.color_twist(
            images,
            brightness=draw(1 - LIGHTNESS, 1 + LIGHTNESS),
            saturation=draw(1 - SATURATION, 1 + SATURATION),
            hue=draw(-HUE, HUE),
        )
    mirrored = fn.random.coin_flip()
    return fn.crop_mirror_normalize(images, dtype=types.UINT8, output_layout="CHW", mirror=mirrored), labels


def crop(workload: Workload, encoded: Any) -> Any:
    """Random crops (H, W, 3) of encoded images."""
    preset, side = workload.preset, workload.crop
    if not preset.warps:
        images = fn.decoders.image(encoded)
        if workload.pad:
            whole = workload.stored + 2 * workload.pad
            images = fn.crop(images, crop=(whole, whole), out_of_bounds_policy="pad", fill_values=[FILL])
        return fn.crop(images, crop=(side, side), crop_pos_x=draw(0, 1), crop_pos_y=draw(0, 1))
    ratios = [1 - preset.max_aspect_ratio, 1 + preset.max_aspect_ratio]
    images = fn.decoders.image_random_crop(encoded, random_area=workload.shares, random_aspect_ratio=ratios)
    images = fn.resize(images, size=(side, side))
    if preset.max_rotate_angle:
        angle = draw(-preset.max_rotate_angle, preset.max_rotate_angle)
        images = fn.rotate(images, angle=angle, keep_size=True, fill_value=FILL)
    return images


def draw(low: float, high: float) -> Any:
    return fn.random.uniform(range=(low, high))
