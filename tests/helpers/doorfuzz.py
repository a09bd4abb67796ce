"""Files changed at random, through the door that takes them: a process that says what it does before it does it.

``python -m tests.helpers.doorfuzz DOOR FOLDER SEED BEGIN END`` tries the cases of these numbers. It ends with status 1
at the first traceback, or where a case takes more memory than MOST_MEMORY, and by a signal where one takes more than
SECONDS; ``FOLDER/case`` is the file that did.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import random
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.data import check, checkindex, decoding, imagebounds, imagenet, inputs, lists, recordio, tarwalk
from mxnet_resnet.data.cifar import DATASETS
from mxnet_resnet.data.cifarfiles import read_pickle
from mxnet_resnet.data.matfile import read_structures
from mxnet_resnet.plans.architecture import MODELS
from mxnet_resnet.plot import curves, logreader
from mxnet_resnet.runs import checkpoint, entries, ledger, params
from mxnet_resnet.settings import recipes
from tests.helpers import REPOSITORY
from tests.helpers.kinds import encode_kinds

SECONDS, MOST_MEMORY = 20, 1 << 30  # a case
MOST_PIXELS = 1 << 24
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x3FFF, 0x10000, 0x1000000)
SIGNS = "0 9 - . e : [ ] { } , & * ! % ' \" # \\ \0 \t é inf nan 1e999 9999999999999999999999 <<: null ~ 0x ? |"
SIGNS += " 2001-99-99 !!python/name:os.system 1:1:1 0b2"


class Door(NamedTuple):
    """What is changed, and who reads the file."""

    samples: Callable[[], list[bytes]]
    read: Callable[[Path], object]


def mutate(rng: random.Random, data: bytes, samples: Iterable[bytes]) -> bytes:
    """One to six changes: bits, numbers of several sizes, bytes taken out, doubled many times, moved, of another."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = int(len(changed) * rng.random() ** 2)  # headers matter most
        length = min(int(2 ** rng.uniform(0, 10)), len(changed) - at)
        kind = rng.randrange(8)
        if kind == 0 and changed:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind in (1, 2):
            code = rng.choice(("<H", ">H", "<I", ">I", "<Q", "B"))
            number = rng.choice(NUMBERS) + rng.choice((0, 0, 1, -1))
            packed = struct.pack(code, number % 256 ** struct.calcsize(code))
            changed[at : at + len(packed)] = packed
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length] * rng.choice((1, 2, 30, 3000) if length < 64 else (1, 2))
        elif kind == 5:
            changed[at : at + length] = bytes([rng.choice((0, 0xFF, rng.randrange(256)))]) * length
        elif kind == 6:
            other = rng.choice(list(samples))
            begin = rng.randrange(len(other) + 1)
            changed[at:at] = other[begin : begin + length]
        else:
            changed[at:at] = rng.choice(SIGNS.split(" ")).encode() * rng.choice((1, 1, 5, 2000))
    return bytes(changed[: 1 << 22])


def sample_images() -> list[bytes]:
    return [data for data, _ in encode_kinds().values()]


def read_image(path: Path) -> None:
    image = decoding.decode(path.read_bytes())
    assert image.dtype == np.uint8 and image.ndim == 3 and image.size <= 3 * MOST_PIXELS


def sample_archives() -> list[bytes]:
    from scipy.io import savemat

    synsets = np.array([(1, "n01440764", "tench")], [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    plain, packed = io.BytesIO(), io.BytesIO()
    savemat(plain, {"synsets": synsets})
    savemat(packed, {"synsets": synsets}, do_compression=True)
    batch = pickle.dumps({b"labels": [1, 2], b"data": np.zeros((2, 3072), np.uint8)}, 2)
    found = [plain.getvalue(), packed.getvalue(), batch]
    for mode in ("w", "w:gz", "w:xz", "w:bz2"):
        for style in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            file = io.BytesIO()
            with tarfile.open(fileobj=file, mode=mode, format=style) as tar:
                for name, data in ((imagenet.META, plain), ("é" * 150, packed), (imagenet.GROUND_TRUTH, packed)):
                    member = tarfile.TarInfo(name)
                    member.size = len(data.getvalue())
                    tar.addfile(member, io.BytesIO(data.getvalue()))
            found.append(file.getvalue())
    return found


def read_archive(path: Path) -> None:
    data = path.read_bytes()
    with contextlib.suppress(UserError):
        read_pickle(data, 2, DATASETS["cifar10"], "case")
    with contextlib.suppress(UserError):
        imagenet._read_meta(data, path)
    with contextlib.suppress(UserError):
        imagenet._read_devkit(path)
    with tarwalk.opened(path) as (tar, end):
        for member in tarwalk.walk_members(tar, path, 0, end):
            if member.size < 1 << 20:
                tarwalk.read_member(tar, member)
    with contextlib.suppress(ValueError, struct.error, zlib.error):
        read_structures(data, "synsets")


def sample_texts() -> list[bytes]:
    plan = vars(next(iter(MODELS.values())))
    recipe = b"# a recipe\nbatch-size: 128\nlr: 0.1\nlr-steps: [80, 120]\nmemonger: yes\nnetwork: preact_resnet20\n"
    return [
        recipe,
        json.dumps(plan).encode(),
        b"0\t1\ta.png\n1\t2.0\tb.png\n",
        b"n01440764 tench\nn01443537 goldfish\n",
    ]


def read_text(path: Path) -> None:
    from mxnet_resnet.use import reading

    with contextlib.suppress(UserError):
        recipes.load(str(path))
    with contextlib.suppress(UserError):
        reading._read_note(path)
    with contextlib.suppress(UserError):
        list(inputs.find([str(path.rename(path.with_suffix(".lst")))]))
    lists.read_list(path.with_suffix(".lst"))


def sample_records() -> list[bytes]:
    found = []
    for images in (sample_images()[:3], sample_images()[3:9]):
        records = b""
        for number, image in enumerate(images):
            data = recordio.IMAGE_HEADER.pack(0, float(number), number, 0) + image
            records += recordio.RECORD_HEADER.pack(recordio.MAGIC, len(data)) + data + bytes(-len(data) % 4)
        found.append(records)
    return found


def read_records(path: Path) -> None:
    path = path.rename(path.with_suffix(".rec"))
    path.with_suffix(".idx").write_bytes(path.read_bytes()[:50].replace(b"\0", b"1\t2\n"))
    if path.stat().st_size:
        report = check.check_file(path)
        checkindex.check_index(report)
        check.summarize(report)
    for source in inputs.find([str(path)]):
        with contextlib.suppress(UserError):
            source.read()
    recordio.scan(path, decoding=True)


def sample_state_dicts() -> list[bytes]:
    import torch
    from safetensors.torch import save

    arrays = {
        "conv1.weight": torch.zeros(4, 3, 3, 3),
        "fc.weight": torch.ones(10, 4).half(),
        "fc.bias": torch.zeros(10),
    }
    found = [save(arrays)]
    for content, new in ((arrays, True), (arrays, False), ({"state_dict": arrays, "epoch": 3}, True)):
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=new)
        found.append(file.getvalue())
    return found


def read_state_dict(path: Path) -> None:
    from mxnet_resnet.engines.torch import state_dict
    from mxnet_resnet.use import reading

    path = path.rename(path.with_suffix(".pth"))
    with contextlib.suppress(UserError):
        reading.read_known(str(path))
    state_dict.load(path)


def sample_logs() -> list[bytes]:
    head = (REPOSITORY / "log/digits.log").read_bytes()[:6000]
    figures = (REPOSITORY / "log/results/cifar10-fast-seed1/metrics.jsonl").read_bytes()[:3000]
    workers = b"".join(b"INFO:root:Node[%d] Epoch[%d] Train-accuracy=0.%d\n" % (n % 3, n // 9, n) for n in range(90))
    gluoncv = b"INFO:root:[Epoch 7] train=0.75 val=0.5 loss=1.25 time: 16.5\n" * 20
    return [head, figures, workers, gluoncv, head.decode().encode("utf-16"), head.replace(b"\n", b"\r\n")]


def read_log(path: Path) -> None:
    data, found = path.read_bytes(), []
    for name in ("a.log", "metrics.jsonl"):
        path.with_name(name).write_bytes(data)
        with contextlib.suppress(UserError):
            found += logreader.read_all(path.with_name(name))
    if not found:
        raise UserError("no run is told")
    metrics = curves.choose_metrics(found, None)
    runs, _ = curves.drawable(found, curves.View(metrics))
    assert runs and curves.table(runs, curves.View(metrics))
    for error in (value for run in runs for value in curves.curve(run, "validation", "top1", curves.View(metrics)).y):
        assert 0 <= error <= 100 or error != error, error


def sample_checkpoints() -> list[bytes]:
    entry = entries.Entry(
        "run", 1, arguments={"lr": "0.1"}, validation={"0": {"accuracy": 0.5}}, digests={"params": "a"}
    )
    pointer = {"run": "run", "checkpoint": "0001", "arguments": {}}
    with tempfile.TemporaryDirectory() as folder:
        params.write(Path(folder, "a"), {"arg:conv0_weight": np.ones((4, 3, 3, 3), np.float32)})
        return [Path(folder, "a").read_bytes(), *(json.dumps(one).encode() for one in (vars(entry), pointer))]


def read_checkpoint(path: Path) -> None:
    """The same bytes as parameters, as an entry and as both pointers."""
    prefix, data = str(path.with_name("net")), path.read_bytes()
    for name in ("0001.params", "0001.json", "latest.json", "best.json"):
        path.with_name(f"net-{name}").write_bytes(data)
    for read in (ledger.names, ledger.latest, ledger.best, ledger.arguments, checkpoint.find_latest):
        with contextlib.suppress(UserError):
            read(prefix)
    with contextlib.suppress(UserError):
        entries.read(prefix, "0001")
    path.with_name("net-0001.json").unlink()
    checkpoint.load_arrays(path.with_name("net-0001.params"))


DOORS = {
    "images": Door(sample_images, read_image),
    "archives": Door(sample_archives, read_archive),
    "texts": Door(sample_texts, read_text),
    "records": Door(sample_records, read_records),
    "state_dicts": Door(sample_state_dicts, read_state_dict),
    "logs": Door(sample_logs, read_log),
    "checkpoints": Door(sample_checkpoints, read_checkpoint),
}


def main() -> int:
    door, folder, (seed, begin, end) = DOORS[sys.argv[1]], Path(sys.argv[2]), map(int, sys.argv[3:])
    imagebounds.allow(MOST_PIXELS)
    decoding.silence_opencv()
    samples, counts = door.samples(), Counter[str]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    for number in range(begin, end):
        rng = random.Random(f"{seed} {number}")
        data = mutate(rng, rng.choice(samples), samples)
        (folder / "case").write_bytes(data)
        file = folder / "case.yaml"
        file.write_bytes(data)
        print(number, flush=True)
        signal.alarm(SECONDS)
        try:
            door.read(file)
            counts["read"] += 1
        except UserError:
            counts["refused"] += 1
        except Exception:
            traceback.print_exc()
            return 1
        signal.alarm(0)
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
        if taken > MOST_MEMORY:
            print(f"case {number} took {taken:,} bytes", file=sys.stderr)
            return 1
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
