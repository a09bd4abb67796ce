"""Trained nets out of training: `predict/export.py`, and what computes the same there."""

import contextlib
import json
import re
import signal
import sys
from dataclasses import replace
from functools import partial

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base import files
from mxnet_resnet.base.interruption import Interrupted
from mxnet_resnet.engines.graphs import folding
from mxnet_resnet.engines.mxnet import models, nets, symbols
from mxnet_resnet.engines.mxnet.graphs import deployment
from mxnet_resnet.engines.mxnet.ndarrays import to_mxnet
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.plans import architecture
from mxnet_resnet.runs import checkpoint
from mxnet_resnet.use import export as exporting
from mxnet_resnet.use import proof, reading, samples, writing
from mxnet_resnet.use.proof import NotProven
from tests.helpers.conversions import as_net

GLUONCV = ["--mean", "0.4914,0.4822,0.4465", "--std", "0.2023,0.1994,0.2010"]
FAMILY = [
    ("resnet20", {"shortcut": "A"}),
    ("resnet20", {"shortcut": "centered_identity", "data_norm": "full"}),
    ("resnet20", {"shortcut": "C"}),
    ("resnet20", {"shortcut": "convolution"}),
    ("preact_resnet20", {"shortcut": "A"}),
    ("preact_resnet20", {"shortcut": "raw_projection", "data_norm": "shift"}),
    ("preact_wide_resnet16_1", {"drop_rate": 0.3}),
    ("gluon_resnet18_v2", {}),
]
LARGE = [
    ("preact_resnet18", {}),
    ("resnet50", {}),
    ("preact_resnet50", {}),
    ("gluon_resnet50_v1", {}),
    ("wide_resnet50_2", {}),
]
SLOW = [pytest.param(*net, marks=pytest.mark.slow) for net in LARGE]


@pytest.fixture
def export(command, capsys):
    return lambda *arguments: command(capsys, "predict/export.py", *arguments)


@pytest.fixture
def onnx_side():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from mxnet_resnet.engines.mxnet import onnx as onnx_side

    return onnx_side


def as_trained(name, options):
    """A net of random weights and statistics as others run it, its scores about 1."""
    net = models.build(name, classes=10, **options)
    side = 32 if "20" in name or "16" in name else 64
    net.initialize(mx.init.Xavier())
    random = np.random.RandomState(0)
    arrays = {}
    for parameter_name, parameter in net.collect_params().items():
        arrays[parameter_name] = parameter.data().asnumpy()
        if parameter_name.endswith(("mean", "beta", "bias")):
            arrays[parameter_name] = random.normal(0, 0.1, parameter.shape).astype(np.float32)
        elif parameter_name.endswith(("var", "gamma")):
            arrays[parameter_name] = random.uniform(0.5, 1.5, parameter.shape).astype(np.float32)
    symbol = net(mx.sym.var("data"))
    auxiliary = set(symbol.list_auxiliary_states())
    args = {key: array for key, array in arrays.items() if key not in auxiliary}
    auxs = {key: array for key, array in arrays.items() if key in auxiliary}
    made = TrainedNet(name, args, auxs, (3, side, side), 10, symbols.to_graph(symbol))
    deviation = np.float32(np.std(scores(made, images(made))))
    args["fc1_weight"], args["fc1_bias"] = args["fc1_weight"] / deviation, args["fc1_bias"] / deviation
    return made


def images(net, number=4):
    return np.random.RandomState(1).normal(size=(number, *net.image_shape)).astype(np.float32)


def scores(net, batch):
    executor = symbols.from_graph(net.graph).simple_bind(mx.cpu(), grad_req="null", data=batch.shape)
    executor.copy_params_from(to_mxnet(net.params), to_mxnet(net.statistics))
    return executor.forward(is_train=False, data=mx.nd.array(batch))[0].asnumpy()


@pytest.mark.parametrize(("name", "options"), [*FAMILY, *SLOW])
def test_a_folded_net_computes_the_same(name, options):
    net = as_trained(name, options)
    folded = deployment.fold(net)
    expected, found = (scores(each, images(net)) for each in (net, folded))
    assert np.abs(expected - found).max() < 2e-5 * np.abs(expected).max()
    left = folded.graph.count("BatchNorm")
    assert left < net.graph.count("BatchNorm")
    if not name.startswith(("preact", "gluon_resnet18_v2")):
        assert left == bool(options.get("data_norm"))
    assert not folded.graph.count("Dropout")


def test_a_convolution_that_a_shortcut_reads_keeps_its_batchnorm():
    data = mx.sym.var("data")
    convolution = mx.sym.Convolution(data, kernel=(3, 3), pad=(1, 1), num_filter=4, name="conv")
    norm = mx.sym.BatchNorm(convolution, name="bn")
    values = {name: np.ones(4, np.float32) for name in ("conv_bias", "bn_gamma", "bn_beta")}
    values["conv_weight"] = np.random.RandomState(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    auxs = {"bn_moving_mean": np.ones(4, np.float32), "bn_moving_var": np.full(4, 2, np.float32)}
    for graph, left in ((norm, 0), (norm + convolution, 1), (mx.sym.Group([norm, convolution]), 1)):
        assert folding.fold(symbols.to_graph(graph), values, auxs)[0].count("BatchNorm") == left


def test_a_gamma_that_mxnet_takes_for_1_is_1():
    net = as_trained("resnet20", {"data_norm": "shift"})
    fixed = folding.set_fixed_to_one(net.graph, net.params)
    assert np.all(fixed["bn_data_gamma"] == 1)
    assert np.any(fixed["bn0_gamma"] != 1)


@pytest.mark.parametrize(("name", "options"), [*FAMILY, *SLOW])
def test_onnx_runtime_computes_the_same(onnx_side, tmp_path, name, options):
    net = as_trained(name, options)
    exporting.export_onnx(tmp_path / "net.onnx", net, [f"class {number}" for number in range(10)])
    runtime = onnx_side.open_runtime(tmp_path / "net.onnx")
    for number in (1, 3):
        batch = images(net, number)
        expected = nets.compute(net.graph.with_activation("softmax"), net.arrays, batch)
        assert np.abs(runtime.compute(batch) - expected).max() < 1e-5


@pytest.mark.parametrize(("name", "options"), [*FAMILY[1::3], *SLOW])
def test_int8_computes_nearly_the_same(name, options):
    from mxnet_resnet.engines.mxnet import int8

    net = as_trained(name, options)
    given = images(net, 16)
    quantized = int8.quantize(deployment.fold(net), given, "naive")
    nodes = json.loads(symbols.from_graph(quantized.graph).tojson())["nodes"]
    layers = [node["attrs"] for node in nodes if node["op"] in ("_sg_mkldnn_conv", "_sg_mkldnn_fully_connected")]
    assert len(layers) == sum(net.graph.count(kind) for kind in ("Convolution", "FullyConnected"))
    assert all(attributes.get("quantized", "").lower() == "true" for attributes in layers)
    expected, found = (scores(each, given[:8]).ravel() for each in (net, quantized))
    assert np.corrcoef(expected, found)[0, 1] > 0.95


def test_a_net_trained_here_leaves_in_every_form(onnx_side, trained, digits, export, tmp_path):
    import onnx

    source = ["--prefix", trained / "model/net", "--epoch", "3"]
    synset = digits / "synset.txt"
    status, out, err = export(*source, "--to", "onnx", "--out", tmp_path / "net.onnx", "--synset", synset)
    assert (status, err) == (0, "") and out.count("same top-5") == 2
    model = onnx.load(tmp_path / "net.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == synset.read_text().splitlines()
    assert "in 0..255" in metadata["images"]
    assert model.opset_import[0].version == 13
    assert [value.name for value in model.graph.input] == ["data"]

    status, out, err = export(*source, "--to", "folded", "--out", tmp_path / "folded")
    assert (status, err) == (0, "") and "BatchNorms folded" in out

    records = ["--calib", digits / "digits_train.rec", "--val", digits / "digits_val.rec", "--images", "200"]
    status, out, err = export(*source, "--to", "int8", "--out", tmp_path / "int8", *records)
    assert (status, err) == (0, "")
    before, after = map(float, re.search(r"(\S+)% before and (\S+)% after", out).groups())
    assert 0 < before < 100 and after - before <= 2
    assert re.search(r"a rise of \S+%, \S+ to \S+% with 95% confidence", out)
    assert len(list(tmp_path.iterdir())) == 5  # nothing half-written


def test_a_folded_net_is_a_checkpoint_like_any_other(trained, export, command, capsys, digits, tmp_path):
    image = next((digits / "val").glob("*.png"))
    answers = []
    export("--prefix", trained / "model/net", "--epoch", "3", "--to", "folded", "--out", tmp_path / "folded")
    for prefix, epoch in ((trained / "model/net", 3), (tmp_path / "folded", 0)):
        answers.append(command(capsys, "predict/predict.py", "--img", image, "--prefix", prefix, "--epoch", epoch))
    assert answers[0] == answers[1]
    assert answers[0][0] == 0


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_published_nets(onnx_side, shared, export, tmp_path, version):
    source = ["--prefix", shared / f"checkpoints/cifar_resnet20_{version}", "--epoch", "0", *GLUONCV]
    for kind, out in (("onnx", tmp_path / "net.onnx"), ("folded", tmp_path / "net")):
        status, text, err = export(*source, "--to", kind, "--out", out)
        assert status == 0, err
        assert text.count("same top-5") == 2


def test_a_state_dict(export, tmp_path):
    pytest.importorskip("torch")
    net = models.build("preact_resnet20", classes=10)
    net.initialize()
    arrays = {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}
    writing.write_module(str(tmp_path / "net"), as_net(architecture.find("preact_resnet20"), 10, arrays))
    for name in ("net.pth", "net.safetensors"):
        status, out, err = export(
            "--prefix", tmp_path / "net", "--epoch", "0", "--to", "torch", "--out", tmp_path / name
        )
        assert (status, err) == (0, "") and out.count("target by PyTorch") == 2
        assert (tmp_path / name).is_file()


def test_a_net_that_other_libraries_have_no_place_for_is_ours_on_pytorch(trained, export, tmp_path):
    pytest.importorskip("torch")
    source = ["--prefix", trained / "model/net", "--epoch", "3", "--to", "torch", "--out", tmp_path / "net.pth"]
    status, _, err = export(*source, "--layout", "torch-resnet")
    assert status == 2 and "cannot be this net" in err
    assert not list(tmp_path.iterdir())
    status, out, err = export(*source)
    assert (status, err) == (0, "") and "mxnet_resnet.torch PreActResNet (torch-resnet" in out
    assert "for RGB images in 0..255" in out and out.count("same top-5") == 2


def test_what_is_not_proven_is_not_left(trained, tmp_path):
    net = deployment.deploy(reading.read_checkpoint(str(trained / "model/net"), 3))
    other = replace(net, params={**net.params, "fc1_bias": net.params["fc1_bias"] + np.arange(10, dtype=np.float32)})

    def prove(written, graph):
        expected, found = (partial(nets.compute_scores, each) for each in (net, written))
        return proof.prove(net, expected, found, partial(nets.compute, graph, written.arrays))

    with pytest.raises(NotProven, match=r"largest difference 9\.00e\+00"):
        exporting.write_proven(str(tmp_path / "net"), other, prove)
    assert not list(tmp_path.iterdir())


def test_an_export_that_is_told_to_end_leaves_nothing(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as ended, files.staged(tmp_path / "net.onnx") as (temporary,):
        temporary.write_bytes(b"half")
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.status == 143 and signal.getsignal(signal.SIGTERM) == before
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", ["net-0007.params", "net-latest.json"])
def test_the_place_of_another_checkpoint_is_not_taken(trained, export, tmp_path, other):
    (tmp_path / other).write_text("{}")
    status, _, err = export(
        "--prefix", trained / "model/net", "--epoch", "3", "--to", "folded", "--out", tmp_path / "net"
    )
    assert status == 2 and "is the prefix of another checkpoint" in err
    assert [path.name for path in tmp_path.iterdir()] == [other]


def test_a_signal_that_python_swallows_ends_an_export_all_the_same(tmp_path):
    class Disposed:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted), files.staged(tmp_path / "net.onnx") as (temporary,):
        temporary.write_bytes(b"whole")
        with contextlib.suppress(Interrupted):
            Disposed()
    assert not list(tmp_path.iterdir())


def test_int8_that_loses_too_much_is_not_left(trained, digits, export, tmp_path, monkeypatch):
    scores = iter([np.eye(10)[(np.arange(200) < wrong).astype(int)] for wrong in (10, 18)])
    monkeypatch.setattr(exporting, "compute_scores", lambda net, sample: (next(scores), np.zeros(200, int)))
    records = ["--calib", digits / "digits_train.rec", "--images", "200"]
    net = ["--prefix", trained / "model/net", "--epoch", "3"]
    status, out, err = export(*net, "--to", "int8", "--out", tmp_path / "net", *records)
    assert (status, out) == (1, "")
    assert "5.00% before and 9.00% after" in err and err.startswith("error: nothing was written")
    assert not list(tmp_path.iterdir())


def test_records_to_calibrate_on_and_to_measure_on_are_others(digits):
    for number in (5, 100, 100_000):
        taken = samples.take_two(10, number, digits / "digits_train.rec")
        found = [
            np.concatenate([images for images, _ in sample.batches((3, 32, 32), "center", 50)]) for sample in taken
        ]
        assert len(found[0]) == len(found[1]) == min(number, taken[0].summary.count // 2)
        assert not {image.tobytes() for image in found[0]} & {image.tobytes() for image in found[1]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--to onnx --out net", "writes a file .onnx"),
        ("--to torch --out net.onnx", "writes a file .pth or"),
        ("--to pdf --out net.pdf", "invalid choice"),
        ("--to int8 --out net", "needs records"),
        ("--to folded --out net --calib a.rec", "for int8 alone"),
        ("--to folded --out net --mean .5,.5,.5 --std .5,0,.5", "has a deviation of 0"),
        ("--to folded --out net --mean .5,.5,.5", "normalises its images itself"),
        ("--to torch --out net.pth --std .5,.5,.5", "holds no normalisation"),
        ("--to int8 --out net --calib nowhere.rec", "there is no record file"),
        ("--to folded --out net --layout torchvision", "for --to torch"),
    ],
)
def test_bad_flags_are_told_in_a_sentence(trained, export, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = export("--prefix", trained / "model/net", "--epoch", "3", *arguments.split())
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"error: .*{message}.*\n", err), err
    assert not list(tmp_path.iterdir())


def test_without_onnx_what_to_install_is_told(trained, export, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "mxnet_resnet.engines.mxnet.onnx", raising=False)
    monkeypatch.delattr("mxnet_resnet.engines.mxnet.onnx", raising=False)
    out = tmp_path / "net.onnx"
    status, _, err = export("--prefix", trained / "model/net", "--epoch", "3", "--to", "onnx", "--out", out)
    assert (status, err.count("\n")) == (2, 1) and "pip install onnx onnxruntime" in err


def test_a_file_of_parameters_leaves_as_well(shared, export, tmp_path):
    pytest.importorskip("torch")
    source = ["--params", shared / "checkpoints/resnet20-12fca82f.th"]
    status, out, err = export(*source, "--to", "folded", "--out", tmp_path / "net")
    assert status == 0 and out.count("same top-5") == 2 and "assuming images normalised as for ImageNet" in err
    status, out, err = export(*source, "--to", "torch", "--out", tmp_path / "net.pth")
    assert (status, err) == (0, "") and "mxnet_resnet.torch ResNet (torch-resnet" in out
    assert "the shortcut centered_identity" in out and "for the input that the source takes" in out


def test_the_place_of_the_checkpoint_is_not_taken(trained, export):
    prefix = trained / "model/net"
    for out in (prefix, trained / "log/../model/net"):
        status, _, err = export("--prefix", prefix, "--epoch", "3", "--to", "folded", "--out", out)
        assert status == 2 and "take the place" in err


def test_a_published_graph_of_the_first_repository_goes_to_onnx(onnx_side, shared, tmp_path):
    """Its graph is in the old format, and ends in SoftmaxOutput."""
    graph = checkpoint.load_graph(str(shared / "symbols/tornadomeet-resnet-18")).without_softmax()
    symbol = symbols.from_graph(graph)
    arg_shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, 224, 224))
    random = np.random.RandomState(0)
    args = dict(zip(symbol.list_arguments(), (random.normal(0, 0.05, shape).astype("f4") for shape in arg_shapes)))
    auxs = dict(zip(symbol.list_auxiliary_states(), (random.uniform(0.5, 1, s).astype("f4") for s in aux_shapes)))
    del args["data"]
    net = TrainedNet("a published net", args, auxs, (3, 224, 224), 1000, graph)
    exporting.export_onnx(tmp_path / "net.onnx", net, [str(number) for number in range(1000)])
