"""What a member's commits put on the wire."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playhead.broker.kafka.wire import EndTxnRequest, ProduceRequest, TxnOffsetCommitRequest
from tests.broker.provider import Member

COMMIT_REQUESTS = (ProduceRequest, TxnOffsetCommitRequest, EndTxnRequest)

Send = Callable[..., Awaitable[Any]]


def link_of(member: Member) -> Any:
    """The connections that a member's writer uses."""
    return member.membership._link  # type: ignore[attr-defined]


@contextmanager
def sending(member: Member, send: Callable[[Send, int, Any, Any], Awaitable[Any]]) -> Iterator[None]:
    """Let `send(original, node, request, lane)` send what this member's client sends."""
    link = link_of(member)
    original = link.send

    async def instead(node: int, request: Any, *lane: Any) -> Any:
        return await send(original, node, request, lane)

    link.send = instead
    try:
        yield
    finally:
        link.send = original


@contextmanager
def tapped(member: Member) -> Iterator[list[Any]]:
    """The requests of its commits, in the order in which they are sent."""
    seen: list[Any] = []

    async def note(original: Send, node: int, request: Any, lane: Any) -> Any:
        if isinstance(request, COMMIT_REQUESTS):
            seen.append(request)
        return await original(node, request, *lane)

    with sending(member, note):
        yield seen
