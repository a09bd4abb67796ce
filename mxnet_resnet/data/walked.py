"""Where the records of a large file begin and what their labels are, kept beside it: NAME.rec has NAME.rec.walked.

To find that out all headers are read, which of 12 million records takes long. What is kept is believed as far as
it is seen to be true, and the file is walked over again otherwise:

* the record file has the size and the time of its last change, to the nanosecond, of when it was walked over;
* the SHA-256 of offsets and labels is that which was written with them, which is what a run is known again by, too;
* offsets rise from 0 to within the file, and at those of the first, the last and `SAMPLED` other records, drawn anew
  each time, are headers of records that end where the next one begins and have the labels that are kept.

So it is missed where a few records of a file were changed and its old time was set again; bytes of a sample of the
records are compared besides where a run goes on (`recordio.Summary.content`). A folder that cannot be written to has no
such file, and nothing is lost but time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.base.files import replacing

VERSION = 1
SAMPLED = 2000
LONGEST = 1024  # bytes of the first line, which says what follows
See = Callable[[int, int], float]  # first byte and end of a record to its label; raises UserError where it is none


def find(path: Path) -> Path:
    """Where it is kept of a record file."""
    return path.with_name(f"{path.name}.walked")


def digest(offsets: np.ndarray, labels: np.ndarray) -> str:
    """SHA-256 of offsets (N,), int64, and labels (N,), float32."""
    found = hashlib.sha256(offsets.data)
    found.update(labels.data)
    return found.hexdigest()


def write(path: Path, before: dict[str, int], offsets: np.ndarray, labels: np.ndarray) -> None:
    """Keep offsets (N,), int64, and labels (N,), float32, of a record file, where its folder can be written to.

    ``before`` describes the file as it was before the walk: nothing is kept of one that has changed meanwhile.
    """
    if before != describe(path):
        return
    title = {**before, "records": len(offsets), "digest": digest(offsets, labels)}
    with suppress(UserError), replacing(find(path)) as (temporary,), temporary.open("wb") as file:
        file.write(json.dumps(title).encode() + b"\n")
        file.write(offsets.data)
        file.write(labels.data)


def read(path: Path, see: See) -> tuple[np.ndarray, np.ndarray] | None:
    """The offsets and labels of a record file; None where they are not kept, or not seen to be true.

    ``see`` looks at a record.
    """
    try:
        with find(path).open("rb") as file:
            title = json.loads(file.readline(LONGEST))
            count = title.pop("records")
            if os.fstat(file.fileno()).st_size != file.tell() + 12 * count:
                return None
            offsets, labels = np.fromfile(file, np.int64, count), np.fromfile(file, np.float32, count)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    kept, size = title.pop("digest", None), path.stat().st_size
    if title != describe(path) or not _are_offsets(offsets, size):
        return None
    if kept != digest(offsets, labels):
        return None
    return (offsets, labels) if _are_there(offsets, labels, size, see) else None


def describe(path: Path) -> dict[str, int]:
    """What a record file is known by at a glance."""
    found = path.stat()
    return {"version": VERSION, "size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _are_offsets(offsets: np.ndarray, size: int) -> bool:
    return len(offsets) > 0 and offsets[0] == 0 and offsets[-1] < size and bool((offsets[1:] > offsets[:-1]).all())


def _are_there(offsets: np.ndarray, labels: np.ndarray, size: int, see: See) -> bool:
    """Whether a sample of the records is where it should be, with its labels."""
    last = len(offsets) - 1
    for number in {0, last, *np.random.default_rng().integers(0, last + 1, SAMPLED).tolist()}:
        try:
            if see(int(offsets[number]), int(offsets[number + 1]) if number < last else size) != labels[number]:
                return False
        except UserError:
            return False
    return True
