"""Checkpoints from elsewhere in our nets, and ours elsewhere: `tools/convert.py` and mxnet_resnet.use.reading."""

import re
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon.model_zoo import vision

import mxnet_resnet
from mxnet_resnet.engines.mxnet import models, nets
from mxnet_resnet.plans import architecture
from mxnet_resnet.use import reading, writing
from tests.helpers.conversions import SHALLOW, as_net, load_torch, ours, with_arrays
from tests.helpers.family import images, randomise

GLUONCV_NORMALISATION = ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
TORCH_NORMALISATION = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def assert_proven(status, out, err):
    """The conversion ended well, and the differences that it tells are small."""
    assert (status, err) == (0, "")
    differences = re.findall(r"\d+ (random|real) images: largest difference \S+, (\S+) of the scores", out)
    assert [kind for kind, _ in differences] == ["random", "real"]
    assert all(float(difference) < 1e-4 for _, difference in differences)


def assert_same(found, expected):
    assert found.shape == expected.shape and np.ptp(expected) > 0
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def theirs(torch, net, classes=10):
    """A net of torch-resnet as if it were trained."""
    torch.manual_seed(0)
    net.set_head(torch.nn.Linear(net.out_planes, classes))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return net.eval()


def torch_scores(torch, net, data):
    with torch.no_grad():
        return net.eval()(torch.from_numpy(data)).numpy()


def accuracy(net, shared, normalisation, number):
    raw = np.fromfile(shared / "cifar10/cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(-1, 3073)[:number]
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in normalisation)
    net.hybridize()
    right = 0
    for start in range(0, number, 500):
        batch = raw[start : start + 500]
        images = (batch[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255 - mean) / std
        right += int((net(mx.nd.array(images)).asnumpy().argmax(axis=1) == batch[:, 0]).sum())
    return 100 * right / number


@pytest.mark.parametrize("number", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "file, normalisation, on_1000, on_all",
    [
        ("cifar_resnet20_v1-0000.params", GLUONCV_NORMALISATION, 93.8, 92.88),
        ("cifar_resnet20_v2-0000.params", GLUONCV_NORMALISATION, 93.5, 92.70),
        ("resnet20-12fca82f.th", TORCH_NORMALISATION, 91.5, 91.73),
    ],
)
def test_published_checkpoints_are_as_good_in_our_nets(request, shared, file, normalisation, on_1000, on_all, number):
    if file.endswith(".th"):
        request.getfixturevalue("torch")
    net = nets.build_gluon(reading.read_known(str(shared / "checkpoints" / file)))
    expected = on_all if number == 10_000 else on_1000
    assert abs(accuracy(net, shared, normalisation, number) - expected) <= (0.05 if number == 10_000 else 0.2)


def test_published_option_a_net_goes_to_ours_and_to_gluon(torch, shared, convert, tmp_path):
    source = shared / "checkpoints/resnet20-12fca82f.th"
    status, out, err = convert(source, tmp_path / "net")
    assert_proven(status, out, err)
    assert "pytorch_resnet_cifar10" in out and "3, 3, 3 basic units" in out and "269,722 parameters" in out
    assert {path.name for path in tmp_path.iterdir()} == {"net-symbol.json", "net-0000.params"}
    assert_proven(*convert(tmp_path / "net", tmp_path / "gluon.params"))
    net = mxnet_resnet.ResNet20(shortcut="centered_identity", classes=10)
    net.load_parameters(str(tmp_path / "gluon.params"))
    data = images(32)
    assert_same(net(mx.nd.array(data)).asnumpy(), reading.read_known(str(source)).scores(data))


def test_published_gluoncv_net_goes_to_ours(shared, convert, tmp_path):
    status, out, err = convert(shared / "checkpoints/cifar_resnet20_v2", tmp_path / "net")
    assert_proven(status, out, err)
    assert "raw_projection shortcuts" in out
    symbol, args, auxs = mx.model.load_checkpoint(str(tmp_path / "net"), 0)
    assert symbol.list_outputs() == ["softmax_output"]
    assert set(args) | {"data", "softmax_label"} == set(symbol.list_arguments())
    assert set(auxs) == set(symbol.list_auxiliary_states())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_torch_resnet_to_ours_and_back(torch, torch_resnet, convert, tmp_path, suffix):
    source = theirs(torch, torch_resnet.PreActResNet20())
    torch.save(source.state_dict(), tmp_path / "source.pth")
    status, out, err = convert(tmp_path / "source.pth", tmp_path / "net")
    assert_proven(status, out, err)
    assert "torch-resnet PreActResNet for small images" in out
    back = tmp_path / f"back{suffix}"
    assert_proven(*convert(tmp_path / "net", back))
    target = theirs(torch, torch_resnet.PreActResNet20())
    target.load_state_dict(load_torch(torch, back), strict=True)
    data = images(32)
    assert_same(torch_scores(torch, target, data), torch_scores(torch, source, data))


def test_bottlenecks_of_the_symbolic_v2_go_to_torch_resnet(torch, torch_resnet, convert, tmp_path):
    source = ours(replace(architecture.symbolic_v2(164, "cifar"), dimensions=SHALLOW))
    small = {name: array * 0.003 for name, array in source.arrays.items() if re.fullmatch("stage.*_var", name)}
    source = with_arrays(source, **small)  # so that what epsilon is shows
    writing.write_module(str(tmp_path / "net"), source)
    status, out, err = convert(tmp_path / "net", tmp_path / "net.pth")
    assert_proven(status, out, err)
    mean, std = reading.input_normalisation(source)
    assert f"less {mean[0]:.4f}" in out and f"by {std[0]:.4f}" in out
    from torch_resnet.preact_resnet import PreActBottleneck

    target = theirs(torch, torch_resnet.PreActResNet(list(SHALLOW), PreActBottleneck, small_images=True))
    target.load_state_dict(load_torch(torch, tmp_path / "net.pth"), strict=True)
    data = images(32) * 64 + 128
    normalised = (data - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)
    expected = nets.build_gluon(source)(mx.nd.array(data)).asnumpy()
    assert_same(torch_scores(torch, target, normalised.astype(np.float32)), expected)


def torchvision_names(units):
    """Of a bottleneck net's parameters in torchvision."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {"conv1.weight", "fc.weight", "fc.bias", *(f"bn1.{kind}" for kind in norm)}
    for stage, number in enumerate(units, start=1):
        for unit in range(number):
            prefix = f"layer{stage}.{unit}"
            names |= {f"{prefix}.conv{n}.weight" for n in (1, 2, 3)}
            names |= {f"{prefix}.bn{n}.{kind}" for n in (1, 2, 3) for kind in norm}
            if not unit:
                names |= {f"{prefix}.downsample.0.weight", *(f"{prefix}.downsample.1.{kind}" for kind in norm)}
    return names


def test_resnet50_gets_torchvisions_names(torch, tmp_path):
    plan = architecture.find("resnet50")
    net = models.from_architecture(plan, 1000)
    arrays = {name: np.ones(parameter.shape, np.float32) for name, parameter in net.collect_params().items()}
    writing.write_torch(tmp_path / "net.pth", as_net(plan, 1000, arrays))
    state = load_torch(torch, tmp_path / "net.pth")
    assert set(state) == torchvision_names((3, 4, 6, 3))
    trained = (tensor for name, tensor in state.items() if not name.endswith(("mean", "var", "tracked")))
    assert sum(tensor.numel() for tensor in trained) == 25_557_032


NARROW = ((1, 8), (3, 8), (4, 16), (6, 32), (3, 64))


@pytest.mark.parametrize("layout", ["torchvision", "torch-resnet"])
def test_large_bottleneck_nets_go_to_torch_and_back(torch, torch_resnet, convert, tmp_path, layout):
    source = replace(ours(replace(architecture.find("resnet50"), dimensions=NARROW)), image_shape=(3, 64, 64))
    writing.write_module(str(tmp_path / "net"), source)
    file = tmp_path / "net.safetensors"
    assert_proven(*convert(tmp_path / "net", file, "--layout", layout))
    state = load_torch(torch, file)
    if layout == "torchvision":
        assert set(state) == torchvision_names((3, 4, 6, 3))
    else:
        from torch_resnet.resnet import Bottleneck

        target = theirs(torch, torch_resnet.ResNet(list(NARROW), Bottleneck))
        target.load_state_dict(state, strict=True)
        data = images(64)
        assert_same(torch_scores(torch, target, data), nets.build_gluon(source)(mx.nd.array(data)).asnumpy())
    back = reading.read_known(str(file))
    assert replace(back.plan, source="") == replace(source.plan, source="")
    assert back.arrays.keys() == source.arrays.keys()
    assert all(np.array_equal(back.arrays[name], array) for name, array in source.arrays.items())


@pytest.mark.parametrize("kind", ["named_parameters", "half", "double", "wrapped", "lightning", "old"])
def test_state_dicts_as_scripts_save_them(torch, torch_resnet, tmp_path, kind):
    net = theirs(torch, torch_resnet.ResNet20())
    state = net.state_dict()
    if kind == "named_parameters":
        state.update(net.named_parameters())
    elif kind in ("half", "double"):
        state = {name: getattr(tensor, kind)() for name, tensor in state.items()}
    elif kind == "wrapped":
        state = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    elif kind == "lightning":
        renamed = {f"model._orig_mod.{name}": tensor for name, tensor in state.items()}
        state = {"pytorch-lightning_version": "2.4.0", "epoch": 3, "state_dict": renamed, "optimizer_states": []}
    name = {"wrapped": "model_best.pth.tar", "lightning": "last.ckpt", "half": "weights"}.get(kind, "net.pth")
    torch.save(state, tmp_path / name, _use_new_zipfile_serialization=kind != "old")
    found = reading.read_known(str(tmp_path / name))
    assert (found.origin, found.classes) == ("torch-resnet ResNet", 10)
    data = images(32)
    scores, expected = nets.build_gluon(found)(mx.nd.array(data)).asnumpy(), torch_scores(torch, net, data)
    assert np.abs(scores - expected).max() < (1e-2 if kind == "half" else 1e-4) * np.abs(expected).max()
    assert_same(found.scores(data), scores)


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet18_v2", "resnet50_v1"])
def test_gluons_zoo_parameters_are_recognised(tmp_path, name):
    net = randomise(getattr(vision, name)(classes=5))
    net.save_parameters(str(tmp_path / "net.params"))
    found = reading.read_known(str(tmp_path / "net.params"))
    assert (found.origin, found.classes) == (f"Gluon ResNet {name[-2:]}", 5)
    data = mx.nd.array(images(48))
    assert_same(nets.build_gluon(found)(data).asnumpy(), net(data).asnumpy())


def test_gluons_zoo_exports_are_recognised_by_their_graph(tmp_path):
    net = randomise(vision.resnet18_v2(classes=5))
    net.hybridize()
    data = mx.nd.array(images(48))
    expected = net(data).asnumpy()
    net.export(str(tmp_path / "net"))
    found = reading.read_known(str(tmp_path / "net-symbol.json"))
    assert "gluon_resnet18_v2" in found.origin and found.classes == 5
    assert_same(found.scores(data.asnumpy()), expected)
    assert_same(nets.build_gluon(found)(data).asnumpy(), expected)


def test_published_old_graphs_are_read(shared, tmp_path):
    published = shared / "symbols/tornadomeet-resnet-18-symbol.json"
    (tmp_path / "net-symbol.json").write_bytes(published.read_bytes())
    symbol = mx.sym.load(str(published))
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=(2, 3, 64, 64))
    random = np.random.RandomState(0)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        if name.endswith(("gamma", "var")):
            array[:] = random.uniform(0.5, 1.5, array.shape)
        elif name not in ("data", "softmax_label"):
            array[:] = random.normal(0, 0.05, array.shape)
    inputs = ("data", "softmax_label")
    arrays = {f"arg:{name}": array for name, array in executor.arg_dict.items() if name not in inputs}
    arrays.update({f"aux:{name}": array for name, array in executor.aux_dict.items()})
    mx.nd.save(str(tmp_path / "net-0007.params"), arrays)
    data = mx.nd.array(images(64))
    expected = executor.forward(is_train=False, data=data)[0].asnumpy()
    found = reading.read_known(str(tmp_path / "net"))
    assert replace(found.plan, source="") == replace(architecture.symbolic_v2(18, "imagenet"), source="")
    assert_same(mx.nd.softmax(nets.build_gluon(found)(data)).asnumpy(), expected)
    assert_same(mx.nd.softmax(mx.nd.array(found.scores(data.asnumpy()))).asnumpy(), expected)


@pytest.mark.parametrize(
    "name", ["resnet20", "resnet18", "preact_resnet20", "gluoncv_cifar_resnet20_v1", "resnet20_v2"]
)
def test_our_gluon_parameters_are_read_again_as_the_net_they_are(tmp_path, name):
    source = ours(architecture.find(name))
    writing.write_gluon(tmp_path / "net.params", source)
    found = reading.read_known(str(tmp_path / "net.params"))
    data = mx.nd.array(images(32))
    assert_same(nets.build_gluon(found)(data).asnumpy(), nets.build_gluon(source)(data).asnumpy())


def test_the_network_can_be_named_where_a_gluon_file_leaves_a_choice(convert, tmp_path):
    source = ours(architecture.find("gluoncv_cifar_resnet20_v2"))
    writing.write_gluon(tmp_path / "net.params", source)
    name = ("--network", "gluoncv_cifar_resnet20_v2")
    assert convert(tmp_path / "net.params", tmp_path / "out", *name)[0] == 0
    found = reading.read_known(str(tmp_path / "out"), 0)
    assert found.plan.shortcut == "raw_projection"
    data = images(32)
    assert_same(found.scores(data), nets.build_gluon(source)(mx.nd.array(data)).asnumpy())


def test_what_our_gluon_files_leave_open_is_noted_beside_them(tmp_path):
    for name in ("gluoncv_cifar_resnet20_v2", "gluon_resnet18_v1"):
        source = ours(architecture.find(name))
        writing.write_gluon(tmp_path / "net.params", source)
        assert reading.read_known(str(tmp_path / "net.params")).plan == source.plan
