"""What the training of an epoch takes, over the stops of its run."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mxnet_resnet.data.reader import Waiting

SPENT = "spent"  # beside the sums of the metrics in a checkpoint within an epoch


class Timer:
    """Counts seconds, those that were waited for data, and batches of an epoch.

    ``before`` is what `read` gave when the run stopped; an entry of an older clone has none, and the figures of its
    epoch are those of the rest.
    """

    def __init__(self, waiting: Waiting, batches_done: int, before: Mapping[str, float]):
        self._waiting, self._batches_done, self._before = waiting, batches_done, before
        self._started = time.time()

    def read(self, batches_done: int) -> dict[str, float]:
        """The sums since the epoch began, of which ``batches_done`` are done."""
        seconds = time.time() - self._started
        now = {"seconds": seconds, "wait": self._waiting.seconds, "batches": batches_done - self._batches_done}
        return {name: self._before.get(name, 0) + value for name, value in now.items()}
