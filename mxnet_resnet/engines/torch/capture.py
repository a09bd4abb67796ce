"""Work that a GPU repeats by itself: a CUDA graph, in which several pieces go on streams of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

Work = Callable[[], None]


def capture(pieces: Sequence[Work], streams: Sequence[torch.cuda.Stream], device: torch.device) -> Work:
    """What does all pieces of work at once, each on its stream, on the tensors that they had here.

    Each was done once before, so that nothing is chosen or compiled any more. None waits for the GPU, or reads from it.
    Where PyTorch cannot make such a graph it is told, and the pieces are done in turn. Raises OutOfMemoryError.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        # A capture that fails leaves its own stream as the current one.
        with torch.cuda.device(device), torch.cuda.stream(torch.cuda.current_stream(device)):
            _record(graph, pieces, streams)
    except RuntimeError as error:
        shortage = _find_shortage(error)
        if shortage:
            raise shortage from None
        logging.warning("Slower than it could be: a step is no CUDA graph here: %s", str(error).splitlines()[0])
        return lambda: _do_all(pieces)
    return graph.replay


def _record(graph: torch.cuda.CUDAGraph, pieces: Sequence[Work], streams: Sequence[torch.cuda.Stream]) -> None:
    """Let a graph know the pieces; its memory is its own, so that it goes with it."""
    with torch.cuda.graph(graph):
        origin = torch.cuda.current_stream()
        for stream in streams:
            stream.wait_stream(origin)
        for piece, stream in zip(pieces, streams):
            with torch.cuda.stream(stream):
                piece()
        for stream in streams:
            origin.wait_stream(stream)


def _find_shortage(error: BaseException | None) -> torch.OutOfMemoryError | None:
    """The shortage of memory that an error is, or that ended the capture, whose end then fails as well."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__context__
    return error


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
