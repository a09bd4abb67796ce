"""Layers put into a graph one behind the other, with the settings and notes that MXNet writes for those of Gluon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from mxnet_resnet.runs.graph import IMAGE_SHAPE, IMAGES, INITIAL, SHAPE, VARIABLE, Graph, Node, Output

VERSION = {"mxnet_version": ["int", 10901]}  # of the MXNet whose graphs these are
ZERO = json.dumps(["zero", {}])  # of parameters that were given another law than that of their layer
ONES, ZEROS = "ones", "zeros"


class Map(NamedTuple):
    """A feature map (N, channels, H, W) in a graph."""

    output: Output
    channels: int


class Layers:
    """A graph that grows: each method adds a layer behind what it is given, and returns what that layer gives.

    Args:
        epsilon, bn_momentum: of the BatchNorms.
        initial: the law that weights of convolutions are drawn by, or None to leave it to whoever initializes.
        workspace: MB that one convolution may use on a GPU.

    Attributes:
        prefix: of the names of layers.
    """

    def __init__(self, epsilon: float, bn_momentum: float, initial: str | None, workspace: int):
        self.prefix = ""
        self._epsilon, self._bn_momentum, self._initial, self._workspace = epsilon, bn_momentum, initial, workspace
        self._nodes: list[Node] = []
        self._additions = 0

    def images(self, channels: int, shape: tuple[int, int, int] | None) -> Map:
        """The input; ``shape`` (C, H, W) is noted on it."""
        noted = {IMAGE_SHAPE: ",".join(map(str, shape))} if shape else {}
        return Map(self._append(VARIABLE, IMAGES, [], noted), channels)

    def convolution(
        self, x: Map, name: str, channels: int, kernel: int, stride: int = 1, *, bias: bool = False, zero: bool = False
    ) -> Map:
        """A square convolution that keeps H and W at stride 1; one of ``zero`` weights at first."""
        weight = self._variable(
            f"{name}_weight", (channels, x.channels, kernel, kernel), ZERO if zero else self._initial
        )
        biases = [self._variable(f"{name}_bias", (channels,), ZEROS, decays=False)] if bias else []
        settings = {
            "dilate": (1, 1),
            "kernel": (kernel, kernel),
            "layout": "NCHW",
            "no_bias": not bias,
            "num_filter": channels,
            "num_group": 1,
            "pad": (kernel // 2, kernel // 2),
            "stride": (stride, stride),
            "workspace": self._workspace,
        }
        return Map(self._add("Convolution", name, [x.output, weight, *biases], settings), channels)

    def norm(self, x: Map, name: str, *, scale: bool = True, zero: bool = False) -> Map:
        """A BatchNorm; without ``scale`` its gamma is 1, one of ``zero`` has gammas of 0 at first."""
        shape = (x.channels,)
        gamma = self._variable(f"{name}_gamma", shape, ZERO if zero else ONES)
        beta = self._variable(f"{name}_beta", shape, ZEROS, decays=False)
        mean, var = (
            self._variable(f"{name}_moving_mean", shape, ZEROS),
            self._variable(f"{name}_moving_var", shape, ONES),
        )
        changed = [statistic._replace(version=1) for statistic in (mean, var)]
        settings = {"eps": self._epsilon, "fix_gamma": not scale, "momentum": self._bn_momentum}
        return x._replace(output=self._add("BatchNorm", name, [x.output, gamma, beta, *changed], settings))

    def relu(self, x: Map, name: str) -> Map:
        return x._replace(output=self._add("Activation", name, [x.output], {"act_type": "relu"}))

    def dropout(self, x: Map, name: str, rate: float) -> Map:
        """A dropout, or ``x`` itself at rate 0."""
        if not rate:
            return x
        settings = {"axes": (), "cudnn_off": False, "p": rate}
        return x._replace(output=self._add("Dropout", name, [x.output], settings))

    def plus(self, x: Map, other: Map) -> Map:
        """A sum; sums are numbered through the graph, whatever the prefix."""
        name = f"_plus{self._additions}"
        self._additions += 1
        return x._replace(output=self._append("elemwise_add", name, [x.output, other.output], {}))

    def shrink(self, x: Map, stride: int) -> Map:
        """Every ``stride``-th pixel."""
        if stride == 1:
            return x
        everything = (None,) * 4
        settings = {"begin": everything, "end": everything, "step": (1, 1, stride, stride)}
        return x._replace(output=self._add("slice", "slice0", [x.output], settings))

    def pad(self, x: Map, before: int, behind: int) -> Map:
        """So many channels of zeros before and behind those of ``x``."""
        if not before + behind:
            return x
        zeros = self._add("zeros_like", "zeros_like0", [x.output], {})
        parts: list[Output] = []
        cut = 0  # how often fewer zeros were needed than ``x`` has channels
        for channels in (before, behind):
            parts += [zeros] * (channels // x.channels)
            if rest := channels % x.channels:
                settings = {"axis": 1, "begin": 0, "end": rest}
                parts.append(self._add("slice_axis", f"slice_axis{cut}", [zeros], settings))
                cut += 1
            parts.append(x.output)
        inputs = parts[:-1]
        padded = self._add("Concat", "concat0", inputs, {"dim": 1, "num_args": len(inputs)})
        return Map(padded, before + x.channels + behind)

    def max_pooling(self, x: Map, name: str) -> Map:
        """The largest of 3x3 pixels, at every second one."""
        square = {"kernel": (3, 3), "pad": (1, 1), "stride": (2, 2)}
        return self._pooling(x, name, {"pool_type": "max", "pooling_convention": "valid", **square})

    def mean_pooling(self, x: Map, name: str) -> Map:
        """The mean over all pixels: (N, channels, 1, 1)."""
        square = {"kernel": (1, 1), "pad": (0, 0), "stride": (1, 1)}
        return self._pooling(x, name, {"pool_type": "avg", "pooling_convention": "full", **square})

    def flatten(self, x: Map, name: str) -> Map:
        return x._replace(output=self._add("Flatten", name, [x.output], {}))

    def dense(self, x: Map, name: str, outputs: int, initial: str | None) -> Map:
        """A dense layer on flat features, drawn by the law ``initial`` where there is one."""
        weight = self._variable(f"{name}_weight", (outputs, x.channels), initial)
        bias = self._variable(f"{name}_bias", (outputs,), initial or ZEROS, decays=False)
        settings = {"flatten": True, "no_bias": False, "num_hidden": outputs}
        return Map(self._add("FullyConnected", name, [x.output, weight, bias], settings), outputs)

    def loss(self, x: Map, name: str, smoothing: float) -> Map:
        """A softmax that takes labels; ``smoothing`` is the share that goes evenly to the other classes."""
        settings = {"smooth_alpha": smoothing} if smoothing else {}
        label = self._append(VARIABLE, f"{name}_label", [], settings)
        return x._replace(output=self._add("SoftmaxOutput", name, [x.output, label], settings))

    def graph(self, head: Map) -> Graph:
        """All of it, with one output."""
        return Graph(tuple(self._nodes), (head.output,), VERSION)

    def _pooling(self, x: Map, name: str, settings: Mapping[str, object]) -> Map:
        whole = {"global_pool": settings["pool_type"] == "avg", "layout": "NCHW"}
        return x._replace(output=self._add("Pooling", name, [x.output], {**whole, **settings}))

    def _variable(self, name: str, shape: tuple[int, ...], initial: str | None, decays: bool = True) -> Output:
        notes = {
            "__dtype__": 0,
            **({INITIAL: initial} if initial else {}),
            "__lr_mult__": 1.0,
            SHAPE: shape,
            "__storage_type__": 0,
            "__wd_mult__": float(decays),
        }
        return self._append(VARIABLE, self.prefix + name, [], notes)

    def _add(self, operator: str, name: str, inputs: list[Output], settings: Mapping[str, object]) -> Output:
        return self._append(operator, self.prefix + name, inputs, settings)

    def _append(self, operator: str, name: str, inputs: list[Output], settings: Mapping[str, object]) -> Output:
        texts = {key: str(value) for key, value in settings.items()}
        self._nodes.append(Node(operator, name, texts, tuple(inputs)))
        return Output(len(self._nodes) - 1)
