"""Copies new users into the CRM. A plain function: the CRM's library blocks, so each run gets a thread of its own."""

from __future__ import annotations

from playhead import Client, RetryPolicy, SyncIO, event_trigger
from playhead_schemas.user import UserCreated

client = Client("acme")

contacts: dict[str, dict[str, str | None]] = {}
"""Stands for the CRM. Writing the same contact twice leaves one: the effect is idempotent without any key."""


@client.job(
    id="crm-sync",
    name="CRM sync",
    version="1.0.0",
    trigger=event_trigger(UserCreated),
    concurrency=10,  # the CRM allows ten calls at a time
    retry=RetryPolicy(max_attempts=8, initial_seconds=2, max_seconds=120),  # it is down for minutes now and then
    timeout=30,
)
def crm_sync(payload: UserCreated, io: SyncIO) -> dict[str, str]:
    contacts[payload.user_id] = {"email": payload.email, "name": payload.name}
    io.logger.info("contact stored", user_id=payload.user_id)
    return {"contact": payload.user_id}
