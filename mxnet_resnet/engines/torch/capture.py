"""Work that a GPU repeats by itself: a CUDA graph, in which several pieces go on streams of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

Work = Callable[[], None]


def capture(pieces: Sequence[Work], device: torch.device) -> Work:
    """What does all pieces of work at once, on the tensors that they had here.

    Each was done once before, so that nothing is chosen or compiled any more. None waits for the GPU, or reads from it.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(graph):
        origin = torch.cuda.current_stream()
        streams = [torch.cuda.Stream() for _ in pieces]
        for piece, stream in zip(pieces, streams):
            stream.wait_stream(origin)
            with torch.cuda.stream(stream):
                piece()
        for stream in streams:
            origin.wait_stream(stream)
    return graph.replay


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """Within it work goes on a stream of its own, as what is to be captured does, and is waited for on a GPU."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            yield
        current.wait_stream(stream)
        torch.cuda.synchronize()
