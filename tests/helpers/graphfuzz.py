"""Graphs changed at random, through all that a checkpoint goes through: a process that says what it does before it.

``python -m tests.helpers.graphfuzz FOLDER SEED BEGIN END`` tries the cases of these numbers on ``FOLDER/graphs``. It
ends with status 1 at the first traceback; where MXNet ends the process, ``FOLDER/case-BEGIN-symbol.json`` is what did.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.runs import checkpoint, params
from mxnet_resnet.runs.kinds import Kind
from mxnet_resnet.runs.operators import OPERATORS

MOST_VALUES = 2_000_000  # of the parameters of a net that is computed
MOST_MEMORY = 12 * 2**30
NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    16,
    64,
    1000,
    32768,
    65536,
    2**26,
    2**31 - 1,
    2**31,
    2**32,
    10**12,
    -1,
    -2,
    -3,
    -4,
    -5,
]
WORDS = [
    "None",
    "True",
    "False",
    "",
    "nan",
    "inf",
    "1e-30",
    "1e30",
    "-0.5",
    "x",
    "()",
    "(",
    "[1]",
    "3L",
    "int8",
    "float16",
    "relu",
]
WORDS += "nearest constant edge reflect avg sum lp full same like prelu gelu rrelu elu channel instance NCHW".split()
NAMES = ["_Native", "_NDArray", "Custom", "_CachedOp", "_foreach", "_copyto", "null", "RNN", "topk", "", "\x00", "é"]


def mutate(rng: random.Random, text: str) -> str:
    """A graph with one to four changes: of its bytes, its structure, its operators, its settings."""
    if rng.random() < 0.05:
        data = list(text)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = chr(rng.randrange(1, 128))
        return "".join(data)
    content = json.loads(text)
    with suppress(TypeError, KeyError, IndexError):  # what was changed before may be no graph
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(CHANGES)(rng, content)
    return json.dumps(content)


def _change_setting(rng: random.Random, content: dict[str, Any]) -> None:
    node = rng.choice(
        [node for node in _nodes(content) if node["op"] in OPERATORS and OPERATORS[node["op"]].settings]
        or content["nodes"]
    )
    known = OPERATORS.get(node["op"])
    if rng.random() < 0.05:
        node, known = rng.choice(content["nodes"]), None
    attrs = node.setdefault("attrs", {})
    rare = ["__shape__", "__dtype__", "x"] if rng.random() < 0.1 or not known else []
    name = rng.choice([*attrs] * 3 + list(known.settings if known else ()) + rare)
    kind = known and known.settings.get(name)
    for _ in range(30 if kind and rng.random() < 0.8 else 1):  # mostly what is taken
        _set(rng, attrs, name)
        if kind and name in attrs and _takes(kind, attrs[name]):
            break


def _takes(kind: Kind, text: str) -> bool:
    try:
        return kind.takes(text)
    except ValueError:
        return False


def _set(rng: random.Random, attrs: dict[str, str], name: str) -> None:
    old = attrs.get(name, "")
    if rng.random() < 0.03:
        attrs.pop(name, None)
    elif old.startswith("(") and rng.random() < 0.8:
        row = old.strip("()").rstrip(",").split(",")
        at = rng.randrange(len(row))
        row[at : at + rng.choice((0, 1, 1, 1))] = [str(_number(rng))] * rng.choice((1, 1, 1, 0))
        attrs[name] = f"({', '.join(row)})"
    else:
        row = ", ".join(str(_number(rng)) for _ in range(rng.randint(1, 5)))
        attrs[name] = rng.choice((str(_number(rng)), f"({row})", rng.choice(WORDS)))


def _number(rng: random.Random) -> int:
    return rng.choice(NUMBERS) if rng.random() < 0.6 else rng.randint(0, 12)


def _change_operator(rng: random.Random, content: dict[str, Any]) -> None:
    node = rng.choice([*_nodes(content)])
    if rng.random() < 0.1:
        node["op"] = rng.choice(NAMES)
        return
    alike = [name for name, known in OPERATORS.items() if known.inputs == len(node["inputs"])]
    node["op"] = rng.choice(alike) if alike and rng.random() < 0.8 else rng.choice([*OPERATORS])
    attrs = node.setdefault("attrs", {})
    known = OPERATORS[node["op"]]
    for name in [*attrs]:
        if name not in known.settings and rng.random() < 0.9:
            del attrs[name]
    for name in known.required:
        for _ in range(30):
            if name not in attrs or not _takes(known.settings[name], attrs[name]):
                _set(rng, attrs, name)


def _change_inputs(rng: random.Random, content: dict[str, Any]) -> None:
    nodes = content["nodes"]
    node = rng.choice([node for node in nodes if node["inputs"]] or nodes)
    inputs = node["inputs"]
    kind = rng.random()
    if kind < 0.1 or not inputs:
        inputs.append([rng.randrange(len(nodes)), 0, 0])
    elif kind < 0.15:
        inputs.pop(rng.randrange(len(inputs)))
    elif kind < 0.3:
        rng.shuffle(inputs)
    elif kind < 0.9:
        rng.choice(inputs)[0] = rng.randrange(max(1, nodes.index(node)))
    else:
        rng.choice(inputs)[rng.randrange(2)] = _number(rng)


def _change_rest(rng: random.Random, content: dict[str, Any]) -> None:
    nodes = content["nodes"]
    kind = rng.randrange(7)
    if kind == 0:
        content["heads"] = [[rng.randrange(len(nodes)), rng.choice((0, 0, 1, 9)), 0] for _ in range(rng.randint(0, 3))]
    elif kind == 1:
        nodes.pop(rng.randrange(len(nodes)))
    elif kind == 2:
        nodes.append(dict(rng.choice(nodes)))
    elif kind == 3:
        rng.choice(nodes)["name"] = rng.choice((rng.choice(nodes)["name"], "", "data", "é", "a\x07", "a" * 5000))
    elif kind == 4:
        rng.choice(nodes)[rng.choice(("subgraphs", "control_deps", "attr", "param", "x"))] = rng.choice(
            ([[0]], {}, 3, None)
        )
    elif kind == 5:
        content["attrs"] = {"mxnet_version": ["int", _number(rng)]}
    else:
        content.pop(rng.choice([*content]))


def _nodes(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes of a graph, and of the graphs in those."""
    found = list(content["nodes"])
    for node in content["nodes"]:
        for inside in node.get("subgraphs") or ():
            if isinstance(inside, dict):
                found += inside["nodes"]
    return found


CHANGES = (_change_setting,) * 9 + (_change_operator, _change_inputs, _change_inputs, _change_rest)


def try_case(prefix: str, rng: random.Random, image_shape: tuple[int, int, int]) -> str:
    """How far a checkpoint with that graph comes. Raises what is no UserError."""
    from mxnet_resnet.engines.mxnet import gradients, int8, nets
    from mxnet_resnet.engines.mxnet.engine import MXNetEngine
    from mxnet_resnet.engines.mxnet.graphs import deployment
    from mxnet_resnet.engines.net import TrainedNet
    from mxnet_resnet.use import reading

    try:
        graph = checkpoint.load_graph(prefix)
    except UserError:
        return "refused as read"
    try:
        shapes, _ = nets.infer(TrainedNet("case", {}, {}, image_shape, None, graph))
    except UserError:
        return "refused by shapes"
    if sum(map(np.prod, shapes.values())) > MOST_VALUES:
        return "too large to compute"
    draw = np.random.default_rng(rng.randrange(2**32))
    arrays = {name: draw.normal(1, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    if arrays and rng.random() < 0.1:
        arrays[rng.choice([*arrays])] = np.zeros(
            rng.choice(((1,), (3, 4), (0,), (2,) * 9)), rng.choice(("f2", "i8", "f4"))
        )
    states = set(graph.statistics)
    kinds = {name: checkpoint.STATISTIC if name in states else checkpoint.PARAMETER for name in arrays}
    params.write(Path(f"{prefix}-0000.params"), {kinds[name] + name: array for name, array in arrays.items()})
    images = draw.uniform(0, 255, (2, *image_shape)).astype(np.float32)
    engine, given = MXNetEngine(), reading.Given(image_shape=image_shape, mean=(0, 0, 0), std=(1, 1, 1))
    devices = engine.choose_devices(None, 1)
    done = "computed"
    try:
        net = engine.adopt(reading.read_checkpoint(prefix, 0, given))
        engine.predictor(net, devices, 2, "float32").scores(images)
    except UserError:
        return "refused"
    with suppress(UserError):
        reading.recognise(net)
    for step in (
        lambda: gradients.FeatureGradients(net, devices.handles[0]).gradients(images[:1], 0),
        lambda: deployment.fold(deployment.deploy(net)),
        lambda: int8.quantize(deployment.fold(deployment.deploy(net)), images) if rng.random() < 0.05 else None,
    ):
        try:
            step()
        except UserError:
            done = "computed, not all done"
    return done


def main() -> int:
    folder, seed, begin, end = Path(sys.argv[1]), *map(int, sys.argv[2:])
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    graphs = {path: path.read_text() for path in sorted(folder.glob("graphs/*-symbol.json"))}
    prefix = str(folder / f"case-{begin}")
    counts: Counter[str] = Counter()
    for number in range(begin, end):
        rng = random.Random(f"{seed} {number}")
        path = rng.choice([*graphs])
        text = mutate(rng, graphs[path])
        checkpoint.graph_path(prefix).write_text(text, errors="surrogatepass")
        print(f"{number} {path.name}", flush=True)
        shape = (3, 8, 8) if "bouquet" in path.name else (3, 32, 32) if "small" in path.name else (3, 224, 224)
        try:
            counts[try_case(prefix, rng, shape)] += 1
        except Exception:
            traceback.print_exc()
            return 1
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
