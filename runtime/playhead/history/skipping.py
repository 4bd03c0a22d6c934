"""Going on where retention took what was to be read next: only when a person says so, and counted."""

from __future__ import annotations

import asyncio

from playhead.broker.contract import Broker
from playhead.errors import HistoryStopped, InvalidInput
from playhead.history.positions import look
from playhead.history.store import HistoryStore, Span


async def skip(broker: Broker, store: HistoryStore, topic: str, number: int | None = None) -> dict[str, int]:
    """Go on at the log's start in one partition of a topic, or in all that retention has overtaken.

    Returns:
        How many offsets are lost, by partition.

    Raises:
        InvalidInput: history can go on there, or never read it.
        HistoryStopped: skipping does not help: what was read is not what the log has.
    """
    parts = await asyncio.to_thread(store.parts)
    wanted = [p for p in parts if p.topic == topic and number in (None, p.partition)]
    seen = await look(broker, wanted, parts)
    if not seen.stopped:
        which = topic if number is None else f"{topic}[{number}]"
        raise InvalidInput(f"history has nothing to skip in {which}: it is not stopped there, or never read it.")
    lost = {}
    for partition, why in sorted(seen.stopped.items()):
        position, (start, _) = parts[partition].next, seen.bounds[partition]
        if not (position < start and parts[partition].topic_id in ("", seen.topic_ids[topic])):
            raise HistoryStopped(why.message, remedy=why.remedy)
        await asyncio.to_thread(store.skip, partition, Span(position, start))
        lost[f"{topic}[{partition.partition}]"] = start - position
    return lost
