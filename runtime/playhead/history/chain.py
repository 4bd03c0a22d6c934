"""What caused what: an event, the runs on it, what they sent, the runs on that, and so on.

user.created ── welcome-email (run) ── email.sent ── audit-log (run)
             └─ crm-sync (run)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from playhead.events import MAX_CAUSATION_DEPTH
from playhead.history.reading import Snapshot, asked
from playhead.history.schema import EVENT, RUN

CHAIN_NODES_MAX = 200


@dataclass(slots=True)
class Node:
    """An event, or a run; `name` is the event's or the job's. What is not in history has no time."""

    kind: str
    id: str
    name: str = ""
    state: str = ""
    at_ms: int | None = None
    duration_ms: float | None = None
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Chain:
    """The tree from the first event that is known down. `is_cut` where it has more nodes than are shown."""

    root: Node
    is_cut: bool


def chain_of(now: Snapshot, event_id: str) -> Chain:
    """The chain that an event is in: up to where it began, and from there all that follows, level by level."""
    root = _event(now, _first_cause(now, asked(event_id)))
    level, count = [root], 1
    while level and count < CHAIN_NODES_MAX:
        runs, events = _next_level(now, level)
        count += len(runs) + len(events)
        level = events
    return Chain(root, bool(level))


def _first_cause(now: Snapshot, event_id: str) -> str:
    first, seen = event_id, {event_id}
    for _ in range(MAX_CAUSATION_DEPTH):
        cause = now.db.scalar(sa.select(EVENT.c.cause).where(EVENT.c.id == first).limit(1))
        if not cause or cause in seen:
            break
        first = cause
        seen.add(cause)
    return first


def _event(now: Snapshot, event_id: str) -> Node:
    found = now.event(event_id)
    return Node("event", event_id) if found is None else Node("event", found.id, found.name, at_ms=found.at_ms)


def _next_level(now: Snapshot, level: list[Node]) -> tuple[list[Node], list[Node]]:
    """The runs on these events, and the events that those sent; each under what it came of."""
    above = {node.id: node for node in level}
    runs: dict[str, Node] = {}
    query = sa.select(RUN).where(RUN.c.event_id.in_(above)).order_by(RUN.c.began_ms, RUN.c.id).limit(CHAIN_NODES_MAX)
    for row in now.db.execute(query):
        runs[row.id] = Node("run", row.id, row.job_id, row.state, row.began_ms, row.duration_ms)
        above[row.event_id].children.append(runs[row.id])
    sent = sa.select(EVENT.c.id, EVENT.c.name, EVENT.c.at_ms, EVENT.c.cause, EVENT.c.run_id)
    events = []
    rows = now.db.execute(
        sent.where(EVENT.c.cause.in_(above)).order_by(EVENT.c.at_ms, EVENT.c.place).limit(CHAIN_NODES_MAX)
    )
    for row in rows:
        if row.id in above:
            continue  # whoever sends by hand may name any cause, its own id too
        node = Node("event", row.id, row.name, at_ms=row.at_ms)
        (runs.get(row.run_id) or above[row.cause]).children.append(node)
        events.append(node)
    return list(runs.values()), events
