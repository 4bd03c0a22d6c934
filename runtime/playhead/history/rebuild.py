"""Building the history again from the log, beside the one that serves, and putting it in its place in one step.

    the log ──▶ next generation ──▶ caught up ──▶ the old one is held ──▶ its last rows ──▶ current
                                                  nobody writes to it meanwhile, everybody reads

What is killed on the way leaves a generation that nobody uses; the next rebuild deletes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from sqlalchemy import exc

from playhead.broker.contract import Broker
from playhead.errors import AlreadyRunning, HistoryMisfit, InvalidInput
from playhead.history.databases import Place
from playhead.history.filling import Progress, fill, in_the_log, no_progress
from playhead.history.pruning import horizon_ms, prune
from playhead.history.store import HORIZON, ID, PREFIX, HistoryStore, Part, Span, new_generation
from playhead.records import Partition

CAUGHT_UP_OFFSETS = 2_000
"""So near to the log's end the old history may be held for what is left."""
_MAX_ROUNDS = 20


async def rebuild(
    broker: Broker, place: Place, prefix: str, progress: Progress = no_progress, *, accept_loss: bool = False
) -> int:
    """Build it and make it current; how many offsets it was read from.

    Args:
        accept_loss: also where the history has rows of what retention took from the log: they are gone then.

    Raises:
        AlreadyRunning: another rebuild is going on.
        InvalidInput: rows would be lost.
        HistoryMisfit: it is another installation's.
    """
    with place.rebuilding() as alone:
        if not alone:
            raise AlreadyRunning(
                f"another process is building the history in {place.name} again.", remedy="Wait until it has ended."
            )
        old = await asyncio.to_thread(_old, place)
        try:
            return await _rebuild(broker, place, old, prefix, progress, accept_loss=accept_loss)
        finally:
            if old is not None:
                old.close()


def _old(place: Place) -> HistoryStore | None:
    """The current one; None where there is none, or one that is broken or of another format."""
    if not place.current():
        return None
    try:
        store = HistoryStore(place, generation=place.current())
    except HistoryMisfit:
        return None
    try:
        store.parts()
    except exc.DBAPIError as error:
        store.close()
        if place.is_broken(store.generation, error.orig):
            return None
        raise
    return store


async def _rebuild(
    broker: Broker, place: Place, old: HistoryStore | None, prefix: str, progress: Progress, *, accept_loss: bool
) -> int:
    kept: dict[str, str] = {PREFIX: prefix}
    numbers: dict[Partition, int] = {}
    bounds = await in_the_log(broker, prefix)
    if old is not None:
        await asyncio.to_thread(old.claim, prefix)
        kept |= {name: value for name in (ID, HORIZON) if (value := old.meta(name))}
        if not accept_loss:
            await _refuse_loss(broker, old.parts(), bounds)
        numbers = {partition: part.number for partition, part in old.parts().items()}
    current = place.current()
    for number in place.generations():
        if number != current:
            await asyncio.to_thread(place.drop, number)
    number = current + 1
    new = await asyncio.to_thread(new_generation, place, number, kept)
    try:
        read = await _catch_up(broker, new, prefix, bounds, progress, numbers)
        await prune(new, await asyncio.to_thread(horizon_ms, new))
        if old is None:
            await asyncio.to_thread(place.switch, number)
        else:
            read += await _take_over(broker, old, new, prefix, numbers)
    finally:
        new.close()
    if current:
        await asyncio.to_thread(place.drop, current)
    return read


async def _refuse_loss(
    broker: Broker, parts: Mapping[Partition, Part], bounds: Mapping[Partition, tuple[int, int]]
) -> None:
    there = [partition for partition in parts if partition in bounds]
    ids = {topic: (await broker.topic(topic)).id for topic in {partition.topic for partition in there}}
    ends = await broker.bounds(there, committed=False) if there else {}
    lost: dict[Partition, int] = {}
    for partition, part in parts.items():
        start, end = ends.get(partition, (part.next, part.next))
        if part.topic_id and ids.get(partition.topic, "") not in ("", part.topic_id):
            start = part.next  # all that was read is of a topic that is gone
        gone = max(0, min(start, part.next) - part.lost) + max(0, part.next - max(end, start))
        if gone:
            lost[partition] = gone
    if lost:
        topics = ", ".join(sorted({partition.topic for partition in lost}))
        raise InvalidInput(
            f"the log no longer has {sum(lost.values()):,} offsets of {topics} that this history was read from.",
            remedy="Build it without them: playhead history rebuild --accept-loss",
        )


async def _catch_up(
    broker: Broker,
    new: HistoryStore,
    prefix: str,
    bounds: Mapping[Partition, tuple[int, int]],
    progress: Progress,
    numbers: Mapping[Partition, int],
) -> int:
    """Read to the log's end, again and again, until little is left."""
    read, positions = 0, {partition: start for partition, (start, _) in bounds.items()}
    for _ in range(_MAX_ROUNDS):
        spans = {p: Span(positions.get(p, start), end) for p, (start, end) in bounds.items()}
        await fill(broker, new, prefix, spans, progress, "building the history", numbers)
        positions = {partition: span.next for partition, span in spans.items()}
        read += sum(span.next - span.first for span in spans.values())
        bounds = await in_the_log(broker, prefix)
        if sum(end - positions.get(p, start) for p, (start, end) in bounds.items()) <= CAUGHT_UP_OFFSETS:
            break
    return read


async def _take_over(
    broker: Broker, old: HistoryStore, new: HistoryStore, prefix: str, numbers: Mapping[Partition, int]
) -> int:
    """Hold the old one, read what it has more, and switch: no reader ever sees less than before."""
    holding = old.held()
    held = await asyncio.to_thread(holding.__enter__)
    try:
        positions = await asyncio.to_thread(new.positions)
        bounds = await in_the_log(broker, prefix)
        ends = {p: min(held.get(p, start), end) for p, (start, end) in bounds.items()}
        spans = {p: Span(positions.get(p, bounds[p][0]), end) for p, end in ends.items()}
        spans = {partition: span for partition, span in spans.items() if span.next > span.first}
        await fill(broker, new, prefix, spans, numbers=numbers)
        await asyncio.to_thread(new.place.switch, new.generation)
    finally:
        await asyncio.to_thread(holding.__exit__, None, None, None)
    return sum(span.next - span.first for span in spans.values())
