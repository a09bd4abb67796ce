"""Graphs from files in MXNet: what is listed, shapes that MXNet does not look at, and graphs changed at random."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import int8, models, shapes, symbols
from mxnet_resnet.engines.mxnet.binding import Executor
from mxnet_resnet.engines.net import TrainedNet
from mxnet_resnet.runs import graphcheck
from mxnet_resnet.runs.graph import Graph, Node, Output, parse
from mxnet_resnet.runs.operators import OPERATORS
from tests.helpers import REPOSITORY, bouquet

DATA = (1, 3, 8, 8)
SEED, CASES, BATCH, SECONDS = 20, 4000, 500, 400
OF_NETS_ELSEWHERE = "ssd rcnn yolo fcn psp deeplab pose center_net icnet fastscnn danet monodepth siam int8 _gn custom "
OF_NETS_ELSEWHERE += "i3d slowfast c3d p3d r2plus1d tsn kinetics ucf101 hmdb51 sthsth"
SPARSE = {"num_args"}  # what MXNet counts by itself, and does not list


def read_settings(name: str) -> set[str]:
    """What MXNet's own list says that an operator may be told."""
    handle, size = ctypes.c_void_p(), ctypes.c_uint()
    names, types, texts = (ctypes.POINTER(ctypes.c_char_p)() for _ in range(3))
    called, described, counted, returned = (ctypes.c_char_p() for _ in range(4))
    mx.base.check_call(mx.base._LIB.NNGetOpHandle(name.encode(), ctypes.byref(handle)))
    found = (called, described, size, names, types, texts, counted, returned)
    mx.base.check_call(mx.base._LIB.MXSymbolGetAtomicSymbolInfo(handle, *map(ctypes.byref, found)))
    return {names[place].decode() for place in range(size.value)}


def compute(graph: str, changed: dict[str, tuple[int, ...]] | None = None) -> np.ndarray:
    symbol = shapes.without_notes(symbols.from_graph(parse(graph)))
    expected = {**shapes.infer(symbol, {"data": DATA}, changed or {}).variables, **(changed or {})}
    arrays = {name: mx.nd.ones(shape) for name, shape in expected.items() if name != "data"}
    return Executor(symbol, arrays).compute(np.ones(DATA, np.float32))


def test_files_reach_mxnet_through_one_function():
    loading = re.compile(r"sym\.load|symbol\.load|nd\.load|load_json|load_checkpoint|load_parameters\(|SymbolBlock")
    sources = (REPOSITORY / "mxnet_resnet").rglob("*.py")
    found = {path.name: loading.findall(path.read_text()) for path in sources}
    assert {name: calls for name, calls in found.items() if calls} == {"symbols.py": ["sym.load"]}


def test_what_is_listed_is_what_mxnet_has():
    fused = [name for name in OPERATORS if name.startswith("_sg_")]  # whose settings MXNet does not list
    for name in OPERATORS.keys() - {*fused}:
        assert OPERATORS[name].settings.keys() <= read_settings(name) | SPARSE | {"reverse"}, name
    assert {"num_filter", "num_group"} <= read_settings("Convolution")


@pytest.mark.parametrize("name", bouquet.list_operators())
def test_each_listed_operator_computes(name):
    assert compute(bouquet.write(name)).shape[1:] == (3,)


@pytest.mark.parametrize(
    "name, attrs, reason",
    [
        ("Reshape", {"shape": "(10, 7)"}, r"it makes \(10, 7\) of \(1, 4, 8, 8\)"),  # MXNet writes behind the array
        ("reverse", {"axis": "7"}, r"it has axis 7 on \(1, 4, 8, 8\)"),
        ("softmax", {"axis": "-5"}, r"it has axis -5 on \(1, 4, 8, 8\)"),
        ("slice", {"begin": "(0, 0, 5, 0)", "end": "(1, 4, 2, 8)"}, r"it has the shape \(1, 4, 0, 8\)"),
        ("Convolution", {"kernel": "(11, 11)", "num_filter": "1"}, "kernel size exceed input"),
        ("Concat", {"num_args": "2", "dim": "4"}, "axis 4 exceeds the input dimension of 4"),
        ("UpSampling", {"scale": "1024", "sample_type": "nearest", "num_args": "1"}, "GiB of memory for these images"),
    ],
)
def test_shapes_that_do_not_fit_are_told(monkeypatch, name, attrs, reason):
    monkeypatch.setattr(shapes, "BYTES", 2**16)  # as on a machine with little memory
    content = json.loads(bouquet.write(name))
    next(node for node in content["nodes"] if node["name"] == "it")["attrs"] = attrs
    with pytest.raises(UserError, match=f"^(MXNet cannot compute the graph: .*|the graph needs .*){reason}"):
        compute(json.dumps(content))


@pytest.mark.parametrize("name", ["BatchNorm", "InstanceNorm", "LeakyReLU"])
def test_a_norm_reads_a_value_a_channel(name):
    content = json.loads(bouquet.write(name))
    gamma = next(place for place, node in enumerate(content["nodes"]) if node["name"] == "it_gamma")
    content["nodes"][gamma]["attrs"] = {"__shape__": "(3,)"}  # MXNet would read a fourth behind them
    assert compute(json.dumps(content)).shape == (1, 3)
    with pytest.raises(UserError, match=r"it_gamma has shape \(3,\), expected \(4,\)"):
        compute(json.dumps(content), {"it_gamma": (3,)})


@pytest.mark.parametrize("name", ["BatchNorm", "InstanceNorm", "LeakyReLU"])
def test_a_norm_reads_no_values_of_others(name):
    data, gamma = mx.sym.var("data"), mx.sym.var("gamma")
    wider = mx.sym.Convolution(data, kernel=(1, 1), num_filter=5)
    settings = {"act_type": "prelu"} if name == "LeakyReLU" else {}
    first, second = (getattr(mx.sym, name)(read, gamma=gamma, **settings).sum(axis=1) for read in (data, wider))
    with pytest.raises(UserError, match=r"of \d channels reads values of \(\d,\)"):
        compute(mx.sym.elemwise_add(first, second).tojson())


def test_a_slope_of_all_channels_is_taken():
    content = json.loads(bouquet.write("LeakyReLU"))
    next(node for node in content["nodes"] if node["name"] == "it_gamma")["attrs"] = {"__shape__": "(1,)"}
    assert compute(json.dumps(content)).shape == (1, 3)


def test_a_net_in_int8_is_not_put_into_int8_again():
    node = Node("_contrib_quantize_v2", "data_quantize", {}, (Output(0),))
    net = TrainedNet("net", {}, {}, DATA[1:], 3, Graph((Node("null", "data"), node), (Output(1),)))
    with pytest.raises(UserError, match="net is in int8, or made for oneDNN, already"):
        int8.quantize(net, np.ones(DATA, np.float32))


def test_a_graph_as_deep_as_is_read_computes():
    content = json.loads(bouquet.write("relu"))
    content["nodes"] += [
        {"op": "relu", "name": f"relu{place}", "attrs": {}, "inputs": [[place - 1, 0, 0]]}
        for place in range(len(content["nodes"]), graphcheck.MOST_NODES)
    ]
    content["heads"] = [[graphcheck.MOST_NODES - 1, 0, 0]]
    graphcheck.check(parse(json.dumps(content)))
    assert compute(json.dumps(content)).shape == (1, 3)


def test_nets_of_mxnets_zoo_are_read():
    for name in (
        "alexnet",
        "densenet121",
        "inception_v3",
        "mobilenet_v2_0_5",
        "resnet18_v2",
        "squeezenet1_1",
        "vgg11_bn",
    ):
        net = getattr(mx.gluon.model_zoo.vision, name)()
        graphcheck.check(parse(net(mx.sym.var("data")).tojson()))


@pytest.mark.slow
def test_nets_of_gluoncv_are_read():
    zoo = pytest.importorskip("gluoncv.model_zoo.model_zoo")
    read = 0
    for name, build in zoo._models.items():
        if any(other in name for other in OF_NETS_ELSEWHERE.split()):
            continue
        given = build(pretrained=False)(mx.sym.var("data"))
        graphcheck.check(parse((mx.sym.Group(list(given)) if isinstance(given, tuple) else given).tojson()))
        read += 1
    assert read > 100


@pytest.mark.slow
def test_no_graph_changed_at_random_ends_the_process(tmp_path):
    """A failure names the number of the case; `python -m tests.helpers.graphfuzz` with the folder repeats it."""
    folder = tmp_path / "graphs"
    folder.mkdir()
    for name in bouquet.list_operators():
        (folder / f"bouquet-{name}-symbol.json").write_text(bouquet.write(name))
    for name in ("resnet20", "preact_resnet20"):
        (folder / f"small-{name}-symbol.json").write_text(symbols.softmax(models.build(name, classes=10)).tojson())
    for name in ("mobilenet0_25", "squeezenet1_1", "resnet18_v1"):
        net = getattr(mx.gluon.model_zoo.vision, name)()
        (folder / f"{name}-symbol.json").write_text(net(mx.sym.var("data")).tojson())
    print(f"seed {SEED}")
    ends: Counter[str] = Counter()
    for begin in range(0, CASES, BATCH):
        ends.update(run_cases(tmp_path, begin, begin + BATCH))
    print(dict(ends))
    computed = sum(number for end, number in ends.items() if end.startswith("computed"))
    assert sum(ends.values()) == CASES and ends["refused as read"] > CASES / 10 and computed > CASES / 10


def run_cases(folder: Path, begin: int, end: int) -> dict[str, int]:
    """How cases of the fuzzer end, in a process of its own, whose writes behind arrays glibc notices where it can."""
    watching = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.graphfuzz", str(folder), *map(str, (SEED, begin, end))]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **watching}, capture_output=True, text=True, timeout=SECONDS
    )
    lines = done.stdout.splitlines()
    graph = folder / f"case-{begin}-symbol.json"
    assert done.returncode == 0, f"case {lines[-1:]} ended with {done.returncode}:\n{graph.read_text()}\n{done.stderr}"
    return json.loads(lines[-1])
