"""Graphs as data: what MXNet makes of a file, parsed without it, and files that are none."""

import json
import random

import mxnet as mx
import pytest

from mxnet_resnet.engines.mxnet import models, symbols
from mxnet_resnet.engines.mxnet.symbols import from_graph, to_graph
from mxnet_resnet.runs.graph import Graph, Node, Output, parse

PLAIN = {
    "nodes": [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "w", "inputs": []},
        {"op": "FullyConnected", "name": "fc", "attrs": {"num_hidden": "3"}, "inputs": [[0, 0, 0], [1, 0, 0]]},
        {"op": "softmax", "name": "softmax", "inputs": [[2, 0, 0]]},
    ],
    "arg_nodes": [0, 1],
    "heads": [[3, 0, 0]],
}


def written(symbol) -> dict:
    """A symbol as MXNet writes it, but for what its upgrade of old files leaves on statistics."""
    content = json.loads(symbol.tojson(remove_amp_cast=False))
    for node in content["nodes"]:
        if node["name"].endswith(("moving_mean", "moving_var")):
            node.pop("attrs", None)
    return content


@pytest.mark.parametrize("name", ["resnet20", "preact_resnet50", "gluon_resnet18_v2"])
def test_a_graph_is_written_as_it_was_read(name):
    symbol = symbols.softmax(models.build(name, classes=10), image_shape=(3, 48, 64))
    graph = parse(symbol.tojson())
    assert from_graph(graph).tojson() == symbol.tojson()
    assert graph.noted_image_shape() == (3, 48, 64)
    assert graph.count("Convolution") == symbol.tojson().count('"Convolution"') > 0
    assert graph.first_stride() == (1 if name == "resnet20" else 2)
    assert set(graph.variables) == {*symbol.list_arguments(), *symbol.list_auxiliary_states()}


@pytest.mark.parametrize("depth", [18, 50])
def test_old_files_are_read_as_mxnet_upgrades_them(shared, depth):
    path = shared / f"symbols/tornadomeet-resnet-{depth}-symbol.json"
    assert "moving_mean" not in path.read_text() and '"attrs"' not in path.read_text()
    graph, upgraded = parse(path.read_text()), mx.sym.load(str(path))
    assert written(from_graph(graph)) == written(upgraded)
    assert graph.input_names(graph.first_input())[3] == "bn_data_moving_mean"


def test_a_graph_ends_before_its_softmax_or_behind_one():
    graph = parse(json.dumps(PLAIN))
    scores = graph.without_softmax()
    assert scores.last.name == "fc" and len(scores.nodes) == 3 and scores.without_softmax() is scores
    assert scores.with_activation("softmax").last == graph.last
    labelled = to_graph(mx.sym.SoftmaxOutput(mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3)))
    assert [name for name in labelled.without_softmax().variables if name.endswith("label")] == []


def test_what_no_output_needs_is_left_out():
    variables = [Node("null", name) for name in ("data", "unused", "w")]
    dense = Node("FullyConnected", "fc", {"num_hidden": "3"}, (Output(0), Output(2)))
    other = Node("relu", "other", {}, (Output(1),))
    graph = Graph((*variables, other, dense), (Output(4),)).pruned()
    assert [node.name for node in graph.nodes] == ["data", "w", "fc"]
    assert graph.last.inputs == (Output(0), Output(1))


@pytest.mark.parametrize(
    "text, value",
    [
        ("(2, 2)", (2, 2)),
        ("True", True),
        ("false", False),
        ("None", None),
        ("2e-05", 2e-5),
        ("relu", "relu"),
        ("(", "("),
    ],
)
def test_settings_are_values(text, value):
    assert Node("x", "x", {"a": text}).setting("a", 7) == value
    assert Node("x", "x").setting("a", 7) == 7


def changed(*places) -> str:
    """The plain graph with another value at a place."""
    content = json.loads(json.dumps(PLAIN))
    *path, last, value = places
    at = content
    for step in path:
        at = at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        "{",
        "[" * 100_000,
        changed("nodes", None),
        changed("nodes", []),
        changed("heads", []),
        changed("heads", ...),
        changed("heads", 0, 0, 4),
        changed("nodes", 0, "op", ...),
        changed("nodes", 0, "op", 3),
        changed("nodes", 0, "name", None),
        changed("nodes", 0, []),
        changed("nodes", 2, "attrs", "num_hidden", 3),
        changed("nodes", 2, "attrs", ["x"]),
        changed("nodes", 2, "inputs", 0, 0, 99),
        changed("nodes", 2, "inputs", 0, 0, -1),
        changed("nodes", 2, "inputs", 0, 0, 2),
        changed("nodes", 2, "inputs", 0, 1, -1),
        changed("nodes", 2, "inputs", 0, [0]),
        changed("nodes", 2, "inputs", 0, [0, 0, 0, 0]),
        changed("nodes", 2, "inputs", 0, "00"),
        changed("nodes", 2, "inputs", 0, 0, True),
        changed("nodes", 2, "inputs", 0, 0, 0.5),
        changed("attrs", "x"),
    ],
)
def test_what_is_no_graph_is_refused(text):
    with pytest.raises(ValueError):
        parse(text)


def test_no_mutated_file_breaks_the_parser():
    rng, refused = random.Random(0), 0
    whole = json.dumps(PLAIN)
    for _ in range(3000):
        data = list(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.choice('0123456789{}[]",:truefalsn-\\')
        try:
            parse("".join(data))
        except ValueError:
            refused += 1
    assert 0 < refused < 3000
