"""The event of the benchmarks: about 120 bytes of JSON."""

from __future__ import annotations

from playhead import TypedEvent


class ThingMade(TypedEvent, name="thing.made", key="user_id"):
    email: str
    user_id: str
    name: str
    sent_at: float = 0.0


class LinkMade(TypedEvent, name="link.made"):
    n: int
    sent_at: float = 0.0
