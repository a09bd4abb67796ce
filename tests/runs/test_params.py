"""MXNet's .params files, read and written with NumPy alone: as MXNet has them, and hostile ones."""

import random
import struct

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import params
from tests.helpers.recordfiles import mutated

TYPES = ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")
SHAPES = ((1,), (3,), (2, 3), (2, 3, 1, 5), (0,), (0, 3), (2, 0))


def array(shape, dtype) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(-100, 100, shape).astype(dtype)


def saved(path, arrays, numpy_shape=False) -> bytes:
    """The bytes that MXNet writes for arrays."""
    with mx.util.np_shape(numpy_shape):
        mx.nd.save(str(path), {name: mx.nd.array(value, dtype=value.dtype) for name, value in arrays.items()})
    return path.read_bytes()


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("dtype", TYPES)
def test_files_are_those_of_mxnet(tmp_path, dtype):
    arrays = {f"arg:{shape}": array(shape, dtype) for shape in SHAPES}
    theirs = saved(tmp_path / "theirs.params", arrays)
    params.write(tmp_path / "ours.params", arrays)
    assert (tmp_path / "ours.params").read_bytes() == theirs
    assert_same(params.read(tmp_path / "theirs.params"), arrays)
    loaded = mx.nd.load(str(tmp_path / "ours.params"))
    assert_same({name: value.asnumpy() for name, value in loaded.items()}, arrays)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"z": np.ones(2, "f4"), "a": np.arange(3, dtype="i8"), "m": np.zeros((2, 2), "?")},
        {"": np.ones(1, "f4"), "gewicht-für-ebene-1/日本": np.ones(1, "f4"), "n" * 5000: np.ones(1, "f2")},
    ],
    ids=["none", "several types, in their order", "names of any characters"],
)
def test_names_and_their_order_are_those_of_mxnet(tmp_path, arrays):
    theirs = saved(tmp_path / "theirs.params", arrays)
    params.write(tmp_path / "ours.params", arrays)
    assert (tmp_path / "ours.params").read_bytes() == theirs
    assert_same(params.read(tmp_path / "theirs.params"), arrays)


def test_the_layout_of_an_array_in_memory_does_not_show(tmp_path):
    values = array((4, 6), "f4")
    params.write(tmp_path / "plain.params", {"a": values.T[1:]})
    for number, other in enumerate((values.T[1:].copy(), values.T[1:].astype(">f4"))):
        params.write(tmp_path / f"{number}.params", {"a": other})
        assert (tmp_path / f"{number}.params").read_bytes() == (tmp_path / "plain.params").read_bytes()
    np.testing.assert_array_equal(params.read(tmp_path / "plain.params")["a"], values.T[1:])


def test_arrays_that_are_read_can_be_written_to(tmp_path):
    params.write(tmp_path / "a.params", {"a": np.zeros(3, "f4"), "b": np.zeros(3, "f4")})
    found = params.read(tmp_path / "a.params")
    found["a"] += 1
    assert found["a"].sum() == 3 and not found["b"].any()


def test_bfloat16_is_read_as_the_float32_of_the_same_value(tmp_path):
    values = array((3, 4), "f4")
    values[0, 0] = np.inf
    halved = mx.nd.amp_cast(mx.nd.array(values), dtype=np.dtype([("bfloat16", np.uint16)]))
    mx.nd.save(str(tmp_path / "a.params"), {"a": halved})
    found = params.read(tmp_path / "a.params")["a"]
    assert found.dtype == np.float32 and 0 < np.abs(found[1:] - values[1:]).max() < 0.5
    np.testing.assert_array_equal(found, mx.nd.amp_cast(halved, dtype="float32").asnumpy())


def test_numpys_shapes_are_read_as_mxnet_writes_them(tmp_path):
    arrays = {"scalar": np.array(3, "f4"), "empty": np.zeros((0, 2), "f4"), "plain": array((2, 3), "i4")}
    data = saved(tmp_path / "a.params", arrays, numpy_shape=True)
    assert struct.pack("<I", params.NUMPY_SHAPE) in data
    assert_same(params.read(tmp_path / "a.params"), arrays)


VALUES = struct.pack("<iii6f", 1, 0, 0, *range(6))
OLD = {
    "before 1.0": struct.pack("<Ii2q", params.LONG_SHAPE, 2, 2, 3) + VALUES,
    "older still": struct.pack("<I2I", 2, 2, 3) + VALUES,
    "of a GPU": struct.pack("<Iii2q", params.STORAGE_TYPE, 0, 2, 2, 3) + struct.pack("<ii", 2, 3) + VALUES[8:],
}


def container(array: bytes, names=(b"a",), count=1) -> bytes:
    listed = b"".join(struct.pack("<Q", len(name)) + name for name in names)
    return struct.pack("<3Q", params.FILE_MAGIC, 0, count) + array + struct.pack("<Q", len(names)) + listed


@pytest.mark.parametrize("version", OLD)
def test_old_versions_are_read_as_mxnet_reads_them(tmp_path, version):
    path = tmp_path / "a.params"
    path.write_bytes(container(OLD[version]))
    expected = mx.nd.load(str(path))["a"].asnumpy()
    assert_same(params.read(path), {"a": expected})
    assert expected.tolist() == [[0, 1, 2], [3, 4, 5]]


PLAIN = struct.pack("<Iii1q", params.STORAGE_TYPE, 0, 1, 6) + VALUES
CUT = "is cut short or no MXNet parameter file"


def dense(*shape: int, kind: int = 0, data: bytes = VALUES[12:]) -> bytes:
    head = struct.pack(f"<Iii{len(shape)}q", params.STORAGE_TYPE, 0, len(shape), *shape)
    return head + struct.pack("<iii", 1, 0, kind) + data


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", CUT),
        (container(PLAIN)[:-1], CUT),
        (container(PLAIN, count=2), CUT),
        (container(PLAIN, count=2**64 - 1), CUT),
        (container(PLAIN, (b"a", b"b")), CUT),
        (container(PLAIN, (b"\xff",)), CUT),
        (container(PLAIN, ()), "holds arrays without names"),
        (container(PLAIN + PLAIN, (b"a", b"a"), 2), "holds two arrays of the name a"),
        (container(PLAIN[:4] + struct.pack("<i", 1) + PLAIN[8:]), "holds a sparse array"),
        (container(PLAIN[:4] + struct.pack("<i", -1) + PLAIN[8:]), "holds a sparse array"),
        (container(struct.pack("<Iii", params.STORAGE_TYPE, 0, 0)), "holds an array without values"),
        (container(struct.pack("<Ii", params.LONG_SHAPE, 0)), "holds an array without values"),
        (container(struct.pack("<I", 0)), "holds an array without values"),
        (container(struct.pack("<Iii", params.NUMPY_SHAPE, 0, -1)), CUT),
        (container(dense(*[1] * 33)), CUT),
        (container(struct.pack("<Iii", params.STORAGE_TYPE, 0, 2**31 - 1)), CUT),
        (container(struct.pack("<I", 2**32 - 1)), CUT),
        (container(dense(-6)), CUT),
        (container(dense(-2, -3)), CUT),
        (container(dense(7)), CUT),
        (container(dense(2**62, 4)), CUT),
        (container(dense(2**32, 2**32)), CUT),
        (container(dense(0, 2**62, 2**62, data=b"")), CUT),
        (container(dense(6, kind=8)), CUT),
        (container(dense(6, kind=-1)), CUT),
    ],
)
def test_a_hostile_file_is_one_sentence(tmp_path, content, reason):
    path = tmp_path / "a.params"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path} {reason}[^\n]*$"):
        params.read(path)


def test_no_mutated_file_breaks_the_reader(tmp_path):
    """Nor does one that is cut anywhere; what is still read is no more than the file has."""
    arrays = {"arg:a": array((2, 3), "f4"), "aux:b": array((4,), "i8"), "arg:c": array((2, 2), "?")}
    whole, rng, path = saved(tmp_path / "a.params", arrays), random.Random(0), tmp_path / "mutated.params"
    cut = [whole[:length] for length in range(len(whole))]
    refused = 0
    for content in cut + [mutated(whole, rng) for _ in range(3000)]:
        path.write_bytes(content)
        try:
            found = params.read(path)
        except UserError as error:
            assert str(error).startswith(f"{path} ") and "\n" not in str(error)
            refused += 1
        else:
            assert sum(value.nbytes for value in found.values()) <= 2 * len(content)
    assert len(cut) < refused < len(cut) + 3000


@pytest.mark.parametrize("value", [np.array(1, "f4"), np.ones(2, "i2"), np.ones(2, "c8"), np.array(["a"])])
def test_what_the_container_has_no_form_for_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match=r"hold no array .*: a$"):
        params.write(tmp_path / "a.params", {"a": value})


def test_a_full_disk_is_told():
    with pytest.raises(UserError, match=r"^cannot write /dev: the disk is full$"):
        params.write(params.Path("/dev/full"), {"a": np.zeros(100_000, "f4")})
