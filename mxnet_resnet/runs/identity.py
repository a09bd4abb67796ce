"""What the weights of a run follow from, under stable keys; two runs compared by it; and older spellings of it.

An entry of the ledger holds these values with SCHEMA. A key that an entry lacks has its field's ``default``: so a field
may be added whose default is what runs did before. Sentences are made from changes at the edge, by `describe`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

SCHEMA = 2  # 1 had a label in English for each key
MACHINE = "machine."  # what a run may go on with other values of: they change its rounding alone
ENGINE = "machine.engine"
OF_ENGINE = {"machine.version", "machine.graph", "machine.store"}  # of two engines they have nothing in common
REQUIRED = object()

Identity = dict[str, Any]


class Field(NamedTuple):
    """A value of an identity: how a sentence calls it, and what runs had that do not tell it."""

    label: str
    default: Any = REQUIRED


FIELDS = {
    "net.network": Field("network"),
    "net.depth": Field("depth"),
    "net.width": Field("width"),
    "net.drop_rate": Field("drop rate"),
    "net.shortcut": Field("shortcut"),
    "net.zero_init_residual": Field("zero-init residual"),
    "net.bn_momentum": Field("BatchNorm momentum"),
    "data.classes": Field("classes"),
    "data.image_shape": Field("image shape"),
    "data.train": Field("training records"),
    "data.later_train": Field("later training records", None),
    "data.val": Field("validation records"),
    "data.augmentation": Field("augmentation"),
    "data.aug_off_epoch": Field("augmentation off"),
    "data.pad": Field("padding"),
    "data.mirror": Field("mirroring"),
    "data.mixup": Field("mixup"),
    "data.backend": Field("reader"),
    "batch_size": Field("batch size"),
    "seed": Field("seed"),
    "dtype": Field("dtype"),
    "optimizer.name": Field("optimizer"),
    "optimizer.momentum": Field("momentum"),
    "optimizer.weight_decay": Field("weight decay"),
    "optimizer.decayed": Field("decayed"),
    "optimizer.label_smoothing": Field("label smoothing"),
    "rate.lr": Field("learning rate lr"),
    "rate.way": Field("learning rate schedule"),
    "rate.milestones": Field("learning rate milestones"),
    "rate.factor": Field("learning rate factor"),
    "rate.end": Field("learning rate end"),
    "rate.begin": Field("learning rate begin"),
    "rate.warmup_steps": Field("learning rate warmup_steps"),
    "rate.warmup_lr": Field("learning rate warmup_lr"),
    "rate.warmup_mode": Field("learning rate warmup_mode"),
    "machine.engine": Field("machine engine", "mxnet"),
    "machine.version": Field("machine version"),
    "machine.devices": Field("machine devices"),
    "machine.device_kind": Field("machine kind of device"),
    "machine.workers": Field("machine workers"),
    "machine.store": Field("machine kvstore"),
    "machine.threads": Field("machine threads"),
    "machine.graph": Field("machine executed graph"),
    "machine.gpu": Field("machine GPU", None),
    "machine.deterministic": Field("machine deterministic", False),
    "machine.compiled": Field("machine compiled", "no"),
}


class Change(NamedTuple):
    """A key whose value is another one now."""

    key: str
    before: Any
    after: Any

    @property
    def of_machine(self) -> bool:
        """Whether it changes the rounding of a run and nothing else."""
        return self.key.startswith(MACHINE)


def compare(before: Identity, after: Identity) -> list[Change]:
    """What differs between two identities, in the order of FIELDS. A key that one lacks has its default there.

    Where the engine differs, what each has of its own does not count besides.
    """
    before, after = _as_stored(before), _as_stored(after)
    keys = dict.fromkeys([*FIELDS, *before, *after])
    pairs = ((key, _value(before, key), _value(after, key)) for key in keys)
    changes = [Change(*pair) for pair in pairs if _differ(*pair[1:])]
    moved = any(change.key == ENGINE for change in changes)
    return [change for change in changes if not (moved and change.key in OF_ENGINE)]


def describe(change: Change) -> str:
    """``"seed was 0, is 1"``."""
    label = FIELDS[change.key].label if change.key in FIELDS else change.key
    return f"{label} was {_shown(change.before)}, is {_shown(change.after)}"


def identify_records(count: int, digest: str, content: str) -> dict[str, Any]:
    """A record file as an identity has it: the number of its images, and the beginnings of the digests of its offsets
    and labels and of its bytes.
    """
    return {"images": count, "digest": digest[:12], "content": content[:12]}


def _differ(before: Any, after: Any) -> bool:
    """Whether two values are not the same; of records, entries of before do not tell the content."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        told = before.keys() & after.keys()
        return not told or any(before[key] != after[key] for key in told)
    return before != after


def _value(identity: Identity, key: str) -> Any:
    default = FIELDS[key].default if key in FIELDS else None
    return identity.get(key, None if default is REQUIRED else default)


def _as_stored(identity: Identity) -> Identity:
    """As it is read back from a file: tuples are lists there."""
    return json.loads(json.dumps(identity))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping) and {"images", "digest"} <= value.keys():
        content = f", bytes {value['content']}" if "content" in value else ""
        return f"{value['images']} images ({value['digest']}{content})"
    return str(value)


# How entries of schema 1 called what stands in FIELDS now. Written out: no wording of today's may change it.
OLD_LABELS = {
    "width": "net.width",
    "drop rate": "net.drop_rate",
    "shortcut": "net.shortcut",
    "zero-init residual": "net.zero_init_residual",
    "BatchNorm momentum": "net.bn_momentum",
    "classes": "data.classes",
    "image shape": "data.image_shape",
    "training records": "data.train",
    "later training records": "data.later_train",
    "validation records": "data.val",
    "batch size": "batch_size",
    "augmentation": "data.augmentation",
    "augmentation off": "data.aug_off_epoch",
    "padding": "data.pad",
    "mirroring": "data.mirror",
    "mixup": "data.mixup",
    "reader": "data.backend",
    "label smoothing": "optimizer.label_smoothing",
    "optimizer": "optimizer.name",
    "momentum": "optimizer.momentum",
    "weight decay": "optimizer.weight_decay",
    "decayed": "optimizer.decayed",
    "seed": "seed",
    "dtype": "dtype",
}
OLD_MACHINE = {
    "devices": "machine.devices",
    "kind of device": "machine.device_kind",
    "workers": "machine.workers",
    "kvstore": "machine.store",
    "threads": "machine.threads",
    "MXNet": "machine.version",
    "executed graph": "machine.graph",
}


def migrate(settings: Mapping[str, Any], schema: int) -> Identity:
    """The identity that the settings of an entry of an older schema are. Raises KeyError or ValueError for others."""
    if schema == SCHEMA:
        return dict(settings)
    found: Identity = {}
    for label, value in settings.items():
        if label == "network":
            depth = re.fullmatch(r"ResNet-v2 of depth (\d+)", value)
            found.update({"net.network": None if depth else value, "net.depth": int(depth[1]) if depth else None})
        elif label == "learning rate":
            found.update(_migrated_rate(value))
        elif label == "machine":
            found.update({OLD_MACHINE[name]: one for name, one in value.items()})
        elif label.endswith(" records"):
            told = re.fullmatch(r"(\d+) images \((\w+)\)", value)
            if told is None:
                raise ValueError(f"{value!r} are no records")
            found[OLD_LABELS[label]] = {"images": int(told[1]), "digest": told[2]}
        else:
            found[OLD_LABELS[label]] = value
    return found


def _migrated_rate(rate: Mapping[str, Any]) -> Identity:
    """The learning rate of schema 1, where a cosine was one that ends."""
    end = rate["cosine_end"]
    kept = {f"rate.{name}": value for name, value in rate.items() if name != "cosine_end"}
    return {**kept, "rate.way": "cosine" if end else "steps", "rate.end": end}
