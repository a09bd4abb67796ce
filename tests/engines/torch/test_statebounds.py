"""Files of PyTorch that stand for more than they are."""

from __future__ import annotations

import io
import zipfile

import pytest

pytest.importorskip("torch")

import torch

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.torch import state_dict


def packed(content, kind: int = zipfile.ZIP_STORED, pickled: bytes | None = None) -> bytes:
    """What torch.save makes, packed again, with another pickle."""
    saved, made = io.BytesIO(), io.BytesIO()
    torch.save(content, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(made, "w", kind) as target:
        for name in source.namelist():
            replaced = pickled if pickled and name.endswith("data.pkl") else source.read(name)
            target.writestr(name, replaced)
    return made.getvalue()


PAIRS = b"".join(b"h%ch%c\x86q%c0" % (number, number, number + 1) for number in range(1, 60))
NESTED = b"\x80\x02}K\x01q\x010" + PAIRS + b"h<K\x01s."  # a pair of pairs of pairs ..., as a key
DEEP = b"\x80\x02" + b"]" * 10**5 + b"a" * 99_999 + b"."


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: packed({"w": torch.zeros(50_000_000)}, zipfile.ZIP_DEFLATED), "unpacks to 200,.* bytes, too many"),
        (lambda: packed({"w": torch.zeros(1).expand(10**6, 10**6)}), "claim more values than the file has"),
        (lambda: packed({"w": torch.zeros(1).half().expand(10**6, 10**6)}), "claim more values than the file has"),
        (lambda: packed({"a." * 200_000 + "w": torch.zeros(3)}), "names of more than 1,000 letters"),
        (lambda: packed({"w": torch.zeros(3)}, pickled=NESTED), "damaged, or holds more than tensors"),
        (
            lambda: packed({"w": torch.zeros(3)}, pickled=b"\x80\x02" + b"]" * 10**5 + b"a" * 99_999 + b"."),
            "no state_dict",
        ),
    ],
)
def test_what_stands_for_much_is_told(tmp_path, make, reason):
    path = tmp_path / "a.pth"
    path.write_bytes(make())
    with pytest.raises(UserError, match=reason):
        state_dict.load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_tied_or_of_few_bits_is_read(tmp_path, zipped):
    weight = torch.ones(1000, 1000)
    content = {"a.weight": weight, "b.weight": weight, "c.weight": torch.ones(10, 10).half()}
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert {name: array.sum() for name, array in state_dict.load(tmp_path / "a.pth").arrays.items()} == {
        "a.weight": 1e6,
        "b.weight": 1e6,
        "c.weight": 100,
    }
