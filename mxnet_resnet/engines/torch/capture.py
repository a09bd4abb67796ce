"""Work that a GPU repeats by itself: a CUDA graph, in which several pieces go on streams of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch

Work = Callable[[], None]


def capture(pieces: Sequence[Work], streams: Sequence[torch.cuda.Stream], device: torch.device) -> Work:
    """What does all pieces of work at once, each on its stream, on the tensors that they had here.

    Each was done once before, so that nothing is chosen or compiled any more. None waits for the GPU, or reads from it.
    Graphs of a device share memory, so they are replayed one after the other. Where PyTorch cannot make one it is told,
    and the pieces are done in turn.
    """
    graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
    try:
        with torch.cuda.device(device), torch.cuda.graph(graph, pool=_find_pool(device)):
            origin = torch.cuda.current_stream()
            for stream in streams:
                stream.wait_stream(origin)
            for piece, stream in zip(pieces, streams):
                with torch.cuda.stream(stream):
                    piece()
            for stream in streams:
                origin.wait_stream(stream)
    except RuntimeError as error:
        torch.cuda.set_stream(current)  # PyTorch leaves its own where it fails
        logging.warning("Slower than it could be: a step is no CUDA graph here: %s", str(error).splitlines()[0])
        return lambda: _do_all(pieces)
    return graph.replay


@cache
def _find_pool(device: torch.device) -> object:
    """The memory that the graphs of a device share."""
    return torch.cuda.graph_pool_handle()


def _do_all(pieces: Sequence[Work]) -> None:
    for piece in pieces:
        piece()


@contextmanager
def beside(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """Within it work goes on a stream, as what is to be captured does, and is waited for; without one as always."""
    if stream is None:
        yield
        return
    with torch.cuda.device(stream.device):
        current = torch.cuda.current_stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            yield
        current.wait_stream(stream)
        torch.cuda.synchronize()
