"""Graphs from files that MXNet's C++ must not see: each kind is refused in a sentence, and none before its time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import checkpoint, graphcheck
from mxnet_resnet.runs.graph import parse
from tests.helpers import bouquet

FILTERS = {"kernel": "(3, 3)", "num_filter": "4", "no_bias": "True"}


def variables(*names: str) -> list[dict[str, Any]]:
    return [{"op": "null", "name": name, "inputs": []} for name in names]


def graph(op: str, attrs: dict[str, str], inputs: int = 1, **others: Any) -> dict[str, Any]:
    """A graph of an operator and what it reads."""
    nodes = variables(*["data", *"wbcde"][:inputs])
    node = {"op": op, "name": "it", "attrs": attrs, "inputs": [[place, 0, 0] for place in range(inputs)], **others}
    return {"nodes": [*nodes, node], "arg_nodes": [*range(inputs)], "heads": [[inputs, 0, 0]]}


def fused(norm: bool = False, changed: dict[str, Any] | None = None, **attrs: str) -> dict[str, Any]:
    """A graph of a convolution, and a BatchNorm on it, as one operator."""
    inside = changed or convolution()
    if norm:
        inside["nodes"] += [*variables("g", "b", "m", "v"), {"op": "BatchNorm", "name": "bn", "inputs": []}]
        inside["nodes"][-1]["inputs"] = [[place, 0, 0] for place in (2, 3, 4, 5, 6)]
        inside["heads"] = [[7, 0, 0]]
    return graph("_sg_mkldnn_conv", attrs, 6 if norm else 2, subgraphs=[inside])


def refuse(tmp_path, content: Any) -> str:
    path = tmp_path / "net-symbol.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError) as raised:
        checkpoint.load_graph(str(tmp_path / "net"))
    begin = f"{path} is damaged or not a graph that is read here: "
    assert str(raised.value).startswith(begin) and "\n" not in str(raised.value)
    return str(raised.value).removeprefix(begin)


def convolution(**attrs: str) -> dict[str, Any]:
    return graph("Convolution", {**FILTERS, **attrs}, 2)


@pytest.mark.parametrize("op", ["_Native", "_NDArray", "Custom", "_CachedOp", "_foreach", "_contrib_Proposal", ""])
def test_operators_that_are_not_listed_are_refused_by_name(tmp_path, op):
    expected = f"the operator {op!r} ('it') is not one that is read here"
    assert refuse(tmp_path, graph(op, {"info": "0x41414141"})) == expected


@pytest.mark.parametrize(
    "content, reason",
    [
        (
            convolution(num_group="0"),
            "the num_group of 'it' is '0', where a whole number from 1 to 67108864 is expected",
        ),
        (convolution(kernel="(3, 0)"), "the kernel of 'it' is '(3, 0)', where whole numbers from 1 to 32768"),
        (convolution(kernel="(3, 3"), "the kernel of 'it' is '(3, 3'"),
        (convolution(stride="(-1, 1)"), "the stride of 'it' is '(-1, 1)'"),
        (convolution(pad="(99999, 1)"), "the pad of 'it' is '(99999, 1)', where whole numbers from 0 to 32768"),
        (convolution(dilate="(1, 1, 1)"), "the window of 'it' has not the same sides everywhere"),
        (convolution(num_filter="99999999999"), "the num_filter of 'it' is '99999999999'"),
        (convolution(num_filter="٣"), "the num_filter of 'it' is '٣'"),
        (convolution(layout="NHWC"), "the layout of 'it' is 'NHWC', where one of NCDHW, NCHW, NCW, None is expected"),
        (convolution(no_bias="maybe"), "the no_bias of 'it' is 'maybe', where True or False is expected"),
        (convolution(no_bias="False"), "Convolution 'it' has 2 inputs, where 3 are expected"),
        (convolution(hidden="1"), "Convolution 'it' takes no setting 'hidden'"),
        (graph("Convolution", {"num_filter": "3"}, 3), "Convolution 'it' does not say its kernel"),
        (graph("clip", {"a_min": "nan", "a_max": "1"}), "the a_min of 'it' is 'nan', where a number is expected"),
        (graph("Concat", {"num_args": "3"}, 2), "Concat 'it' has 2 inputs, where 3 are expected"),
        (graph("transpose", {"axes": "(0, 1, 1)"}), "the axes of 'it' is '(0, 1, 1)', where axes, each once"),
        (graph("relu", {}, 0), "relu 'it' has 0 inputs, where 1 are expected"),
        (graph("relu", {"__mirror_stage__": "x"}), "the __mirror_stage__ of 'it' is 'x'"),
        (graph("relu", {}, subgraphs=[graph("relu", {})]), "relu 'it' has a graph inside"),
        (graph("_sg_mkldnn_conv", {}, 2), "_sg_mkldnn_conv 'it' has not one graph inside"),
        (fused(with_bn="true"), "_sg_mkldnn_conv 'it' says of with_bn what is not so"),
        (fused(quantized="true"), "_sg_mkldnn_conv 'it' has 2 inputs, where 4 are expected"),
        (fused(changed=graph("relu", {})), "_sg_mkldnn_conv 'it' is not made of Convolution, with_bn"),
        (fused(changed=convolution(num_group="0")), "the num_group of 'it' is '0'"),
    ],
)
def test_what_operators_do_not_take_is_refused(tmp_path, content, reason):
    assert refuse(tmp_path, content).startswith(reason)


def test_statistics_are_variables(tmp_path):
    content = graph("BatchNorm", {}, 5)
    assert parse(json.dumps(content)).statistics == ["c", "d"]
    content["nodes"][4] = {"op": "relu", "name": "d", "inputs": [[0, 0, 0]]}
    assert refuse(tmp_path, content) == "the running statistics of 'it' are no variables"


def test_variables_are_told_of_once_and_in_words(tmp_path):
    for attrs, reason in (
        ({"__dtype__": "99"}, "the __dtype__ of 'data' is '99'"),
        ({"__shape__": "(-5,)"}, "the __shape__ of 'data' is '(-5,)'"),
        ({"force_mirroring": "x"}, "the force_mirroring of 'data' is 'x'"),
    ):
        content = graph("relu", {})
        content["nodes"][0]["attrs"] = attrs
        assert refuse(tmp_path, content).startswith(reason)
    for name, reason in (
        ("", "a variable has no name"),
        ("a\x1b[2J", "a name or a setting is no text of at most 4096 characters: 'a\\x1b[2J'"),
        ("\ud800", "a name or a setting is no text"),
        ("n" * 5000, "a name or a setting is no text"),
    ):
        content = graph("relu", {})
        content["nodes"][0]["name"] = name
        assert refuse(tmp_path, content).startswith(reason)
    content = graph("elemwise_add", {}, 2)
    content["nodes"][1]["name"] = "data"
    assert refuse(tmp_path, content) == "it has two variables 'data'"
    content = graph("relu", {})
    content["nodes"].insert(1, {"op": "null", "name": "w", "inputs": [[0, 0, 0]]})
    assert refuse(tmp_path, content) == "the variable 'w' reads something, as only operators do"


def test_outputs_are_there(tmp_path):
    content = graph("relu", {})
    content["heads"] = [[1, 1, 0]]
    assert refuse(tmp_path, content) == "the graph reads output 1 of 'it', which has 1"
    content = graph("SliceChannel", {"num_outputs": "2"})
    content["heads"] = [[1, 1, 0], [1, 2, 0]]
    assert refuse(tmp_path, content) == "the graph reads output 2 of 'it', which has 2"


def test_the_form_of_a_file_is_bounded(tmp_path, monkeypatch):
    assert refuse(tmp_path, "[" * 100_000).startswith("it is nested too deeply")
    assert refuse(tmp_path, "{") == "it is no JSON"
    assert refuse(tmp_path, {**graph("relu", {}), "more": 1}) == "graphs have no 'more'"
    assert refuse(tmp_path, graph("relu", {}, x=1)) == "nodes of graphs have no 'x'"
    assert refuse(tmp_path, {**graph("relu", {}), "attrs": {"x": ["int", 1]}}).startswith("it says 'x' of itself")
    assert refuse(tmp_path, {**graph("relu", {}), "attrs": {"mxnet_version": ["int", -1]}}).endswith("MXNet -1")
    monkeypatch.setattr(graphcheck, "MOST_NODES", 1)
    assert refuse(tmp_path, graph("relu", {})) == "it has 2 operators and variables, where 1 are the most"
    (tmp_path / "net-symbol.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="it is no JSON"):
        checkpoint.load_graph(str(tmp_path / "net"))


def test_files_of_any_age_are_taken():
    for key in ("param", "attr", "attrs"):
        content = graph("Convolution", {}, 2)
        content["nodes"][-1] = {**content["nodes"][-1], key: {**FILTERS, "kernel": "(3L, 3L)"}}
        content["nodes"][-1]["backward_source_id"] = -1
        content["nodes"][-1].update({} if key == "attrs" else {"attrs": {}})
        found = parse(json.dumps(content))
        graphcheck.check(found)
        assert found.last.setting("kernel", None) == (3, 3)
    content = graph("Convolution", {}, 2)
    content["nodes"][-1].update(attr={"ctx_group": "dev1", "w_lr_mult": "2"}, param=FILTERS)
    found = parse(json.dumps(content))
    graphcheck.check(found)
    assert found.last.attrs == {**FILTERS, "ctx_group": "dev1", "w_lr_mult": "2"}


@pytest.mark.parametrize("content", [fused(), fused(True, with_bn="true")], ids=["convolution", "with a norm"])
def test_fused_operators_are_taken_with_what_is_in_them(content):
    graphcheck.check(parse(json.dumps(content)))


def test_each_listed_operator_is_taken():
    for name in bouquet.list_operators():
        graphcheck.check(parse(bouquet.write(name)))


@pytest.mark.parametrize("case", ["native", "symbol-sigfpe-num_group-0"])
def test_cases_that_ended_the_process_are_refused(shared, case):
    with pytest.raises(UserError, match=r"_Native|num_group"):
        checkpoint.load_graph(str(shared.parent / "cases/doors" / case))
