"""The processor time that Linux's control groups give this process: what a container may use of a larger machine."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def read_cpu_quota(root: Path = Path("/")) -> float:
    """How many processors' time the groups of this process leave it, the tightest of them; inf where none sets a bound.

    ``root`` is the file system's. Both versions are known: ``cpu.max`` of 2, ``cpu.cfs_quota_us`` of 1 (the kernel's
    Documentation/admin-guide/cgroup-v2.rst and Documentation/scheduler/sched-bwc.rst).
    """
    return min((_read_folder(folder) for folder in _find_folders(root)), default=math.inf)


def _find_folders(root: Path) -> Iterator[Path]:
    """The folders that may hold a bound: of each group and those it lies in, up to the root that is seen from here.

    In a container the group may be named as the machine sees it: then only the root is there.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux
        return
    for line in lines:
        words = line.split(":", 2)
        if len(words) < 3:
            continue
        _, controllers, group = words
        if not controllers:
            mounts = [""]
        elif "cpu" in controllers.split(","):
            mounts = ["cpu", controllers]
        else:
            continue
        for mount in mounts:
            place = Path(group.lstrip("/"))
            yield from (root / "sys/fs/cgroup" / mount / inside for inside in (place, *place.parents))


def _read_folder(folder: Path) -> float:
    """The bound that a folder holds, in processors; inf for none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (folder / "cpu.max").read_text().split()
        if int(quota) > 0:  # "max" is no number
            return int(quota) / int(period)
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:  # -1 for none
            return int(quota) / int(period)
    return math.inf
