"""A graph with its arrays, bound to a device: the one way in which predictions are computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import mxnet as mx
import numpy as np

from mxnet_resnet.base.errors import UserError
from mxnet_resnet.engines.mxnet import shapes
from mxnet_resnet.runs.graph import IMAGES


class Executor:
    """Computes the first output of a graph for batches (N, ...) of one input; arrays that it has no use for are left.

    It is bound to the first batch, and anew to a larger one; a smaller one is filled up. Raises UserError for a graph
    that MXNet cannot compute.
    """

    def __init__(
        self,
        symbol: mx.sym.Symbol,
        arrays: Mapping[str, mx.nd.NDArray],
        context: mx.Context | None = None,
        images: str = IMAGES,
        differentiable: bool = False,
    ):
        """``images`` is the name of the input; ``differentiable`` executors tell its `gradient`."""
        self.context = context or mx.cpu()
        self._symbol, self._input, self._differentiable = shapes.without_notes(symbol), images, differentiable
        names = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
        self._arrays = {name: array for name, array in arrays.items() if name in names}
        self._bound: mx.executor.Executor | None = None
        self._size = 0

    def compute(self, batch: np.ndarray) -> np.ndarray:
        """The output (N, ...) for a batch (N, ...)."""
        number = len(batch)
        if number > self._size:
            self._bind(batch.shape)
        filling = np.repeat(batch[-1:], self._size - number, axis=0)
        data = mx.nd.array(np.concatenate([batch, filling]) if len(filling) else batch)
        with _explaining_errors():
            self._bound.forward(is_train=self._differentiable, **{self._input: data})
            return self._bound.outputs[0].asnumpy()[:number]

    def gradient(self, heads: np.ndarray) -> np.ndarray:
        """That of the input, of the batch computed last, for gradients (N, ...) of the output."""
        self._bound.backward(mx.nd.array(heads, self.context))
        return self._bound.grad_dict[self._input].asnumpy()

    def _bind(self, shape: tuple[int, ...]) -> None:
        wanted = {name: "null" for name in self._symbol.list_arguments()}
        if self._differentiable:
            wanted[self._input] = "write"
        given = {name: array.shape for name, array in self._arrays.items()}
        expected = shapes.infer(self._symbol, {self._input: shape}, given).variables
        shapes.check_fit(expected, self._arrays, self._input)
        known = {name: expected[name] for name in wanted}
        with _explaining_errors():
            self._bound = self._symbol.simple_bind(self.context, grad_req=wanted, **known)
        self._size = shape[0]
        bound = {**self._bound.arg_dict, **self._bound.aux_dict}
        for name, array in self._arrays.items():
            array.astype(bound[name].dtype, copy=False).copyto(bound[name])


@contextmanager
def _explaining_errors() -> Iterator[None]:
    """Make a UserError of what MXNet says of a graph; that is so when it is bound, or when its output is waited for."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(f"MXNet cannot compute the graph: {shapes.explain(error)}") from error
