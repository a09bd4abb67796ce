"""Where a log goes back: restarts set apart from the lines of several workers that nothing marks."""

from __future__ import annotations

import bisect
import itertools
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mxnet_resnet.plot.loglines import Event, Stage

FEWEST_RETURNS = 3  # of workers; fewer are told from restarts by nothing, unless they leave out epochs
NEAR = 3  # epochs' lines: in fewer, a log of workers goes back again
EQUAL = 0.75  # of the ends of epochs every worker tells, and a process that is restarted does not tell as often


@dataclass
class Part:
    """Lines of one start of a training: of one process, or of ``workers`` whose lines are mixed."""

    events: list[Event] = field(default_factory=list)
    workers: int = 1

    def names(self) -> set[tuple[Stage, str]]:
        """Names of the metrics and times that are told, by the stage."""
        return {(event.stage, name) for event in self.events for _, name in event.names()}


def split(events: Sequence[Event], headers: Sequence[int]) -> list[Part]:
    """The starts of a training in a log, in its order; ``headers`` are lines that only a start writes, sorted.

    A process tells each figure once and goes forward. Where its lines go back it was restarted, unless they go back
    again and again, from a little further on each time: at once, or past ends of epochs that were told, or until all
    ends are told as often as the first. Then they are of several workers. A line that repeats the one before, as two
    handlers of a log write it, is passed over.
    """
    _place_within(events)
    segments = _segments(_without_repeats(events))
    an_epoch = _lines_of_an_epoch(events)
    parts: list[Part] = []
    for section in _between_headers(segments, headers):
        groups = [section] if _are_mixed(section, an_epoch) else _near_ones(section, NEAR * an_epoch)
        for group in groups:
            if _are_mixed(group, an_epoch):
                parts += _starts(list(itertools.chain.from_iterable(group)))
            else:
                parts += [Part(segment) for segment in group]
    return parts


def _place_within(events: Sequence[Event]) -> None:
    """Give validations within an epoch the place of the batch before: where its batches go on, each told once."""
    told = Counter((event.epoch, event.batch) for event in events if event.stage == Stage.BATCH)
    repeated = {epoch for (epoch, _), count in told.items() if count > 1}
    waiting: dict[int, list[Event]] = {}
    largest: dict[int, int] = {}
    for event in events:
        if event.stage == Stage.VALIDATED and event.epoch in largest and event.epoch not in repeated:
            event.batch = max(1, largest[event.epoch])
            waiting.setdefault(event.epoch, []).append(event)
        elif event.stage == Stage.BATCH:
            largest[event.epoch] = max(event.batch, largest.get(event.epoch, 0))
            waiting.pop(event.epoch, None)
    for ones in waiting.values():  # no batch came behind them
        for event in ones:
            event.batch = 0


def _without_repeats(events: Sequence[Event]) -> Iterator[Event]:
    before = None
    for event in events:
        told = (event.position(), event.stage, repr(event.figures))
        if told != before:
            yield event
        before = told


def _segments(events: Iterator[Event]) -> list[list[Event]]:
    """Lines in parts that go forward, each beginning where the log goes back, or tells again what it has told."""
    segments: list[list[Event]] = []
    here: set[tuple[bool, str]] = set()  # what was told at the last position
    for event in events:
        last = segments[-1][-1].position() if segments else None
        if last is None or event.position() < last or (event.position() == last and event.names() <= here):
            segments.append([])
        if event.position() != last or not segments[-1]:
            here = set()
        here |= event.names()
        segments[-1].append(event)
    return segments


def _lines_of_an_epoch(events: Sequence[Event]) -> int:
    """How many lines one process writes an epoch."""
    keys = {(event.epoch, event.stage, event.batch, *sorted(event.names())) for event in events}
    return max(Counter(key[0] for key in keys).values(), default=0)


def _between_headers(segments: Sequence[list[Event]], headers: Sequence[int]) -> list[list[list[Event]]]:
    """Segments in groups, each but the first with a header before it."""
    groups: list[list[list[Event]]] = []
    passed = 0
    for segment in segments:
        now = bisect.bisect_right(headers, segment[0].line)
        if not groups or (now > passed and headers[now - 1] > groups[-1][-1][-1].line):
            groups.append([])
        passed = now
        groups[-1].append(segment)
    return groups


def _near_ones(segments: Sequence[list[Event]], most: int) -> list[list[list[Event]]]:
    """Segments in groups: a group goes on until one is longer than ``most`` lines."""
    groups: list[list[list[Event]]] = []
    for segment in segments:
        if not groups or (len(groups[-1][-1]) > most and len(groups[-1]) > 1):
            groups.append([])
        groups[-1].append(segment)
    return groups


def _are_mixed(group: Sequence[Sequence[Event]], an_epoch: int) -> bool:
    """Whether segments are of several workers."""
    returns = [segment[0].position() for segment in group[1:]]
    if not returns or returns[-1] <= returns[0]:  # a process that crashes goes back to where it did
        return False
    ended: dict[int, set] = {}
    skips = jumps = 0
    for segment in group:
        jumps += _jumps(segment, ended)
        skips += _skips_an_end(segment, ended)
        for epoch, names in _ends(segment).items():
            ended.setdefault(epoch, set()).update(names)
    if 2 * jumps >= len(returns):
        return True
    share = _share_of_equals(group)
    if len(returns) < FEWEST_RETURNS:
        return share == 1
    inner = group[1:-1]
    dense = sum(map(len, inner)) <= max(2, an_epoch) * len(inner)  # no training restarts within each epoch
    return dense or share >= EQUAL or 2 * max(skips, jumps) >= len(returns)


def _jumps(segment: Sequence[Event], ended: Container[int]) -> bool:
    """Whether a segment goes on behind an epoch that was told before, without it: a process goes through them all."""
    pairs = zip(segment, segment[1:])
    return any(later.epoch > event.epoch + 1 and event.epoch + 1 in ended for event, later in pairs)


def _share_of_equals(group: Sequence[Sequence[Event]]) -> float:
    """Which share of the ends of epochs is told as often as that of the first epoch, or more; 0 where that is once.

    Of the metric of which that is least: one process may validate twice, but trains an epoch once.
    """
    counts = Counter((name, epoch) for segment in group for epoch, names in _ends(segment).items() for name in names)
    by_name: dict[tuple, dict[int, int]] = {}
    for (name, epoch), count in counts.items():
        by_name.setdefault(name, {})[epoch] = count
    shares = [_share(epochs, epochs[min(epochs)]) for epochs in by_name.values()]
    return min(shares, default=0)


def _share(counts: Mapping[int, int], often: int) -> float:
    return sum(count >= often for count in counts.values()) / len(counts) if often > 1 else 0


def _most_common(counts: Sequence[int]) -> int:
    """The count that is there most often, the largest of several."""
    return max(Counter(counts).items(), key=lambda found: (found[1], found[0]))[0]


def _skips_an_end(segment: Sequence[Event], ended: Mapping[int, set]) -> bool:
    """Whether a segment leaves an epoch without what was told before of its end, as the line of another worker does."""
    own = _ends(segment)
    begun = {event.epoch for event in segment if event.stage < Stage.TRAINED}
    return any(ended.get(epoch, set()) - own.get(epoch, set()) for epoch in begun if epoch < segment[-1].epoch)


def _ends(segment: Sequence[Event]) -> dict[int, set[tuple[bool, str]]]:
    """What is told of the ends of epochs."""
    found: dict[int, set[tuple[bool, str]]] = {}
    for event in segment:
        if event.stage >= Stage.TRAINED:
            found.setdefault(event.epoch, set()).update(event.names())
    return found


def _starts(events: Sequence[Event]) -> list[Part]:
    """Mixed lines by the start of the workers: what more of them tell than there are is of their next start."""
    counts = Counter(key for event in events for key in _keys(event))
    first = min(key[0] for key in counts)  # which all of them tell, and a next start from a later epoch does not
    workers = max(2, _most_common([count for key, count in counts.items() if key[0] == first]))
    parts = [Part(workers=workers)]
    seen: Counter = Counter()
    for event in events:
        if all(seen[key] >= workers for key in _keys(event)):
            parts.append(Part(workers=workers))
            seen.clear()
        seen.update(_keys(event))
        parts[-1].events.append(event)
    return parts


def _keys(event: Event) -> list[tuple]:
    return [(event.epoch, event.stage, event.batch, name) for name in event.names()]
