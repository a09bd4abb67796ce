"""Record files: written, read, and damaged."""

import random
import struct
from pathlib import Path

import mxnet as mx
import numpy as np

from mxnet_resnet.data import recordio
from mxnet_resnet.data.writer import RecordWriter


def pack(label, number: int, image: bytes) -> bytes:
    """What ``mx.recordio.pack`` gives, which NumPy from 2.3 on breaks for several labels."""
    if np.ndim(label) == 0:
        return mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), image)
    labels = np.asarray(label, np.float32)
    return struct.pack("<IfQQ", labels.size, 0, number, 0) + labels.tobytes() + image


def write_records(path: Path, images: list[bytes], labels=None) -> Path:
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for number, image in enumerate(images):
        label = labels[number] if labels else 0.0
        writer.write(pack(label, number, image))
    writer.close()
    return path


def written(prefix: Path, images: list[bytes], labels: list[float]) -> Path:
    """A .rec, .idx and .lst, with keys from 100 on."""
    with RecordWriter(prefix) as writer:
        for number, (image, label) in enumerate(zip(images, labels)):
            writer.write(100 + number, label, image, f"{number}.png")
    return prefix.with_suffix(".rec")


def begins(path: Path) -> list[int]:
    return [record.offset for record in recordio.walk(path)]


def change(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def header(length: int, flag: int = 0, magic: int = recordio.MAGIC) -> bytes:
    return struct.pack("<II", magic, flag << 29 | length)


def contents(path: Path) -> list[tuple[float, bytes]]:
    return [(record.label, record.image) for record in recordio.walk(path)]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to three mutations."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        kind, at = rng.randrange(6), rng.randrange(len(changed) or 1)
        headers = [at for at in range(0, len(changed) - 8, 4) if changed[at : at + 4] == recordio.SPLIT_AT] or [0]
        if kind == 0:
            for place in rng.choices(range(len(changed)), k=rng.randint(1, 8) if changed else 0):
                changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at:]
        elif kind == 2:
            changed[at:at] = rng.choice([rng.randbytes(rng.randint(1, 40)), recordio.SPLIT_AT, header(9, 1)])
        elif kind == 3:
            del changed[at : at + rng.randint(1, 40)]
        elif kind == 4:
            size = rng.randint(1, 400)
            other = rng.randrange(len(changed) or 1)
            changed[at : at + size], changed[other : other + size] = (
                changed[other : other + size],
                changed[at : at + size],
            )
        else:
            place = rng.choice(headers)
            changed[place + 4 : place + 8] = struct.pack("<I", rng.choice([rng.getrandbits(32), 2**29 - 1, 2**32 - 1]))
    return bytes(changed)


def files_of(folder: Path, pattern: str = "*") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob(pattern)}
