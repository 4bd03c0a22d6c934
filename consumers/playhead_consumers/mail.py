"""Stands for the mail service that several jobs call. It has no job, so it is not a consumer group.

A call to the outside may happen twice: when a worker dies between the call and its commit, the run starts again. So the
service is given a key, the same both times, and delivers once per key. Most real services take such a key.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

REMEMBERED_MESSAGES_MAX = 1_000


class Message(NamedTuple):
    """A message as it was delivered."""

    to: str
    subject: str
    text: str


outbox: OrderedDict[str, Message] = OrderedDict()
"""The last messages delivered, by idempotency key."""


async def deliver(message: Message, *, idempotency_key: str) -> bool:
    """Deliver a message unless one was delivered under this key already; tells whether this call did it."""
    if idempotency_key in outbox:
        return False
    outbox[idempotency_key] = message
    if len(outbox) > REMEMBERED_MESSAGES_MAX:
        outbox.popitem(last=False)
    return True


def address_of(user_id: str) -> str:
    """Where a user's mail goes. Stands for a look-up in the user service."""
    return f"{user_id}@users.example"
