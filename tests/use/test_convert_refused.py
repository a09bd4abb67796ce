"""tools/convert.py refuses hostile and damaged files, other nets and impossible targets."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon.model_zoo import vision

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import nets
from mxnet_resnet.plans import architecture
from mxnet_resnet.use import proof, reading, writing
from tests.helpers.conversions import SHALLOW, load_torch, ours, with_arrays


def assert_told(status, out, err, message):
    assert status == 2
    assert "Written" not in out
    assert re.fullmatch(rf"error: .*{message}.*\n", err), err


class Hostile:
    """A pickle of it makes a file when it is loaded as pickles are."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".th", ".pt", ".bin"])
def test_code_in_a_pickle_is_not_run(torch, convert, tmp_path, suffix, zipped):
    source, trace = tmp_path / f"net{suffix}", tmp_path / "trace"
    content = {"state_dict": {"conv1.weight": torch.zeros(16, 3, 3, 3)}, "optimizer": Hostile(trace)}
    torch.save(content, source, _use_new_zipfile_serialization=zipped)
    assert_told(*convert(source, tmp_path / "out"), f"net{suffix} .* is not loaded: that could run code")
    assert not trace.exists()
    torch.load(source, weights_only=False)["optimizer"].close()
    assert trace.exists(), "the pickle is harmless, and the test shows nothing"


def test_code_in_a_plain_pickle_is_not_run(torch, convert, tmp_path):
    (tmp_path / "net.pth").write_bytes(pickle.dumps({"state_dict": Hostile(tmp_path / "trace")}, protocol=2))
    assert_told(*convert(tmp_path / "net.pth", tmp_path / "out"), "is not loaded: that could run code")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


@pytest.fixture(scope="module")
def whole(torch, tmp_path_factory):
    """A net in a file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    source = ours(replace(architecture.find("resnet20"), dimensions=((1, 4), (1, 4), (1, 8))))
    writing.write_torch(folder / "net.pth", source)
    writing.write_torch(folder / "net.safetensors", source)
    writing.write_gluon(folder / "net.params", source)
    torch.save(load_torch(torch, folder / "net.pth"), folder / "net.th", _use_new_zipfile_serialization=False)
    return folder


@pytest.mark.parametrize("share", [0, 1, 8, 64, 0.3, 0.9, -1])
@pytest.mark.parametrize("suffix", [".pth", ".th", ".safetensors", ".params"])
def test_cut_files_are_told(whole, convert, tmp_path, suffix, share):
    content = (whole / f"net{suffix}").read_bytes()
    length = int(share * len(content)) if isinstance(share, float) else share
    (tmp_path / f"cut{suffix}").write_bytes(content[:length])
    assert_told(*convert(tmp_path / f"cut{suffix}", tmp_path / "out"), rf"cut{suffix} is (damaged|cut short)")
    assert [path.name for path in tmp_path.iterdir()] == [f"cut{suffix}"]


def torch_file(torch, path, state):
    torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".pth", ".params"])
def test_nets_of_another_family_are_told(torch, convert, tmp_path, suffix):
    source = tmp_path / f"vgg{suffix}"
    shapes = {"features.0.weight": (8, 3, 3, 3), "features.0.bias": (8,), "classifier.0.weight": (10, 8)}
    if suffix == ".pth":
        torch_file(torch, source, {name: torch.zeros(shape) for name, shape in shapes.items()})
    else:
        mx.nd.save(str(source), {name: mx.nd.zeros(shape) for name, shape in shapes.items()})
    assert_told(*convert(source, tmp_path / "out"), "fits no family of ResNets .* names that fail: classifier.0.weight")


def test_a_graph_of_another_family_is_told(convert, tmp_path):
    net = vision.mobilenet0_25(classes=5)
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 3, 32, 32)))
    net.export(str(tmp_path / "net"))
    assert_told(*convert(tmp_path / "net", tmp_path / "out"), "net-symbol.json fits no family of ResNets")


@pytest.mark.parametrize("part", ["conv1", "conv2", "bn1"])
@pytest.mark.parametrize("unit", ["0.0", "1.0", "1.2"])
def test_a_state_dict_with_a_layer_missing_is_told(torch, torch_resnet, tmp_path, unit, part):
    state = torch_resnet.ResNet20().state_dict()
    rest = {name: tensor for name, tensor in state.items() if not name.startswith(f"layers.{unit}.{part}.")}
    source = torch_file(torch, tmp_path / "net.pth", rest)
    with pytest.raises(UserError, match=r"^the checkpoint .*(has no|fits no)"):
        nets.build_gluon(reading.read_known(str(source)))


@pytest.mark.parametrize(
    "name, shape",
    [("init_layer.0.weight", (16,)), ("init_layer.0.weight", (16, 1, 3, 3)), ("layers.0.0.conv1.weight", ())],
)
def test_a_state_dict_with_a_wrong_shape_is_told(torch, torch_resnet, tmp_path, name, shape):
    source = torch_file(torch, tmp_path / "net.pth", {**torch_resnet.ResNet20().state_dict(), name: torch.ones(shape)})
    with pytest.raises(UserError, match=r"^the checkpoint .*(has shape|fits no)"):
        nets.build_gluon(reading.read_known(str(source)))


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors", "none.params", "none-symbol.json", "none"])
def test_missing_files_are_told(torch, convert, tmp_path, name):
    assert_told(*convert(tmp_path / name, tmp_path / "out"), f"there is no (checkpoint|graph) {tmp_path}/none")
    assert not list(tmp_path.iterdir())


def with_options(name, **options):
    return ours(replace(architecture.find(name), **options))


@pytest.mark.parametrize(
    "name, options, reason",
    [
        ("resnet20_v2", {}, "a projection in its first unit, where the shapes match"),
        ("gluoncv_cifar_resnet20_v1", {}, "no ReLU behind its first convolution"),
        ("gluoncv_cifar_resnet20_v2", {}, "the shortcut raw_projection"),
        ("preact_resnet20", {"stem_norm": True}, "a BatchNorm behind its first convolution"),
        ("resnet164", {"dimensions": SHALLOW, "stride_first": True}, "the stride of its bottlenecks in the first"),
        ("resnet164", {"dimensions": SHALLOW, "bias": True}, "biases in its convolutions"),
    ],
)
def test_nets_that_torch_has_not_are_told_and_are_ours(torch, tmp_path, name, options, reason):
    net = with_options(name, **options)
    with pytest.raises(
        UserError, match=f"torch-resnet .* cannot be this net, which has {reason}.*--layout mxnet_resnet"
    ):
        writing.write_torch(tmp_path / "net.pth", net, "torch-resnet")
    assert not list(tmp_path.iterdir())
    for file in ("net.pth", "net.safetensors"):
        told = writing.write_torch(tmp_path / file, net)
        assert told.startswith("mxnet_resnet.torch ") and reason in told
        again = reading.read_known(str(tmp_path / file))
        assert again.plan == net.plan
        agreement, _ = proof.compare_nets(net, again, proof.make_images(net))
        assert agreement.proven
        from mxnet_resnet.engines.torch import nets as torch_nets

        module = torch_nets.build(again.plan, again.classes)
        module.load_state_dict(load_torch(torch, tmp_path / file), strict=True)


def test_nets_that_torchvision_has_not_are_told(torch, convert, whole, tmp_path):
    for name in ("preact_resnet20", "resnet20"):
        with pytest.raises(UserError, match="torchvision has post-activation nets"):
            writing.write_torch(tmp_path / "net.pth", ours(architecture.find(name)), "torchvision")


@pytest.mark.parametrize("target", ["out", "out.params"])
def test_a_layout_is_for_torch_targets(torch, whole, convert, tmp_path, target):
    result = convert(whole / "net.pth", tmp_path / target, "--layout", "torch-resnet")
    assert_told(*result, f"--layout is for PyTorch targets .*{target}")
    assert not list(tmp_path.iterdir())


def test_a_target_that_cannot_be_written_is_told(torch, whole, convert, tmp_path):
    (tmp_path / "file").touch()
    assert_told(*convert(whole / "net.pth", tmp_path / "file" / "out.params"), f"cannot write {Path(tmp_path, 'file')}")


def test_a_target_that_computes_something_else_is_no_success(torch, whole, convert, tmp_path, monkeypatch):
    write = writing.write_gluon

    def write_another(path, source):
        write(path, with_arrays(source, fc1_bias=source.params["fc1_bias"] + 1))

    monkeypatch.setattr(writing, "write_gluon", write_another)
    status, _, err = convert(whole / "net.pth", tmp_path / "out.params")
    assert status == 1
    assert re.fullmatch("error: .*out.params does not compute what .*net.pth does\n", err)


@pytest.mark.parametrize("name, value, status", [("fc1_weight", 3e38, 1), ("conv0_weight", np.nan, 2)])
def test_what_is_not_finite_is_not_the_same(convert, tmp_path, name, value, status):
    source = ours(architecture.find("resnet20"))
    source.arrays[name][:] = value
    writing.write_module(str(tmp_path / "net"), source)
    assert convert(tmp_path / "net", tmp_path / "out.params")[0] == status


@pytest.mark.parametrize("kind", ["sparse", "meta", "complex", "scalar"])
def test_tensors_that_are_no_weights_are_told(torch, torch_resnet, tmp_path, kind):
    state = torch_resnet.ResNet20().state_dict()
    weight = state["init_layer.0.weight"]
    odd = {
        "sparse": weight.to_sparse(),
        "meta": weight.to("meta"),
        "complex": weight.to(torch.complex64),
        "scalar": torch.tensor(3.0),
    }
    source = torch_file(torch, tmp_path / "net.pth", {**state, "init_layer.0.weight": odd[kind]})
    with pytest.raises(UserError):
        reading.read_known(str(source))


@pytest.mark.parametrize("place", [24, 32, 40])
@pytest.mark.parametrize("value", [b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"])
def test_a_hostile_size_in_a_params_file_is_told_at_once(tmp_path, place, value):
    writing.write_gluon(tmp_path / "net.params", ours(architecture.find("resnet20")))
    data = bytearray((tmp_path / "net.params").read_bytes())
    data[place : place + 4] = value
    (tmp_path / "net.params").write_bytes(data)
    with pytest.raises(UserError, match=r"net\.params is cut short or no MXNet parameter file"):
        reading.read_known(str(tmp_path / "net.params"))


@pytest.mark.parametrize("target", ["net", ".", "dir/", "x.PTH.tar", "net-0003.params", "y.bin"])
def test_targets_that_cannot_be_are_told(convert, tmp_path, target):
    writing.write_module(str(tmp_path / "net"), ours(architecture.find("resnet20")))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    source, message = f"{tmp_path}/net", "(cannot write|the name of an epoch|take the place of the source)"
    assert_told(*convert(source, f"{tmp_path}/{target}"), message)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_epoch_of_a_single_file_is_told(convert, tmp_path):
    writing.write_gluon(tmp_path / "net.params", ours(architecture.find("resnet20")))
    assert_told(*convert(tmp_path / "net.params", tmp_path / "out", "--epoch", 7), "is one file, which has no epoch 7")
