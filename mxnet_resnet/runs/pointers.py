"""``PREFIX-latest.json`` and ``PREFIX-best.json``, each of which names a checkpoint, with a digest of what it says."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mxnet_resnet.base import sources
from mxnet_resnet.base.files import replacing

DIGEST = "digest"


def read_pointer(path: Path) -> dict[str, Any]:
    """What a pointer says; nothing where it is missing or damaged. Older clones wrote no digest. Raises UserError where
    it cannot be read.
    """
    if not path.exists():
        return {}
    data = sources.read(path, "")
    with suppress(ValueError, RecursionError):
        content = json.loads(data.decode())
        if isinstance(content, dict) and content.pop(DIGEST, found := _digest(content)) == found:
            return content
    return {}


def write_pointer(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `read_pointer` reads. Raises UserError where the system refuses."""
    write_content(path, {**content, DIGEST: _digest(content)})


def write_content(path: Path, content: Mapping[str, Any]) -> None:
    """Write what a file of a run says. Raises UserError where the system refuses."""
    with replacing(path) as (temporary,):
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def digest_content(content: Mapping[str, Any]) -> str:
    """SHA-256 of what a file of a run says, in whatever order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that a pointer says, but for its digest."""
    return digest_content({name: value for name, value in content.items() if name != DIGEST})
