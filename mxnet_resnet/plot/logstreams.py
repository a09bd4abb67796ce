"""Which lines of a log are of one process: restarts set apart from workers that write to one log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mxnet_resnet.plot.loglines import Event, Stage

Position = tuple[int, Stage, int]  # of Event.position
MOST_WORKERS = 256  # in one log


@dataclass
class Stream:
    """Lines that go forward, from epoch to epoch and from batch to batch, as those of one process do."""

    events: list[Event] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # of the events among those of all streams
    here: set[tuple[bool, str]] = field(default_factory=set)  # what was told at the last position

    @property
    def last(self) -> Position:
        return self.events[-1].position()

    def takes(self, event: Event) -> bool:
        """Whether a line is ahead of all lines so far."""
        position = event.position()
        return position > self.last or (position == self.last and not event.names() & self.here)

    def add(self, event: Event, place: int) -> None:
        """Go on with a line."""
        if not self.events or event.position() != self.last:
            self.here = set()
        self.here |= event.names()
        self.events.append(event)
        self.places.append(place)


def sort_out(events: Sequence[Event]) -> list[list[Stream]]:
    """Streams by when they ran: those side by side are workers, those after others begin a run, or restart one.

    Each line goes to the stream that it is the next one of, and where there is none, begins a stream. A line that
    repeats the one before, as two handlers of a log write it, is passed over.
    """
    streams: list[Stream] = []
    before = None
    for place, event in enumerate(events):
        told = (event.position(), event.stage, repr(event.figures))
        if told != before:
            stream = _next_of(event, streams[-MOST_WORKERS:])
            if stream is None:
                streams.append(stream := Stream())
            stream.add(event, place)
        before = told
    return _side_by_side(streams)


def _next_of(event: Event, streams: Sequence[Stream]) -> Stream | None:
    """The stream whose last line is the nearest one behind; of equal ones, that which was gone on with last."""
    running = [stream for stream in _going_on(streams) if stream.takes(event)]
    if not running:
        return None
    nearest = max(running, key=lambda stream: (stream.last, stream.places[-1]))
    latest = max(running, key=lambda stream: stream.places[-1])
    restarted = nearest.places[-1] < latest.places[0] and nearest.last[:2] == latest.last[:2]
    return latest if restarted else nearest


def _going_on(streams: Sequence[Stream]) -> list[Stream]:
    """The streams but those since whose last line another has begun and gone through an epoch: they have ended.

    A worker beside the other would have spoken meanwhile.
    """
    begun = max((other.places[0] for other in streams if other.last[0] > other.events[0].epoch), default=0)
    return [stream for stream in streams if stream.places[-1] >= begun]


def _side_by_side(streams: Sequence[Stream]) -> list[list[Stream]]:
    groups: list[list[Stream]] = []
    end = -1
    for stream in streams:
        if stream.places[0] < end:
            groups[-1].append(stream)
        else:
            groups.append([stream])
        end = max(end, stream.places[-1])
    return groups


def count_workers(streams: Sequence[Stream]) -> int:
    """How many of streams side by side tell the same of an epoch, each for itself."""
    told: dict[tuple, int] = {}
    for stream in streams:
        for key in {(event.epoch, event.stage, event.batch, name) for event in stream.events for name in event.names()}:
            told[key] = told.get(key, 0) + 1
    return max(told.values())


def names_of(streams: Sequence[Stream]) -> set[tuple[Stage, str]]:
    """What streams tell: names of metrics and times, by the stage."""
    return {(event.stage, name) for stream in streams for event in stream.events for _, name in event.names()}
