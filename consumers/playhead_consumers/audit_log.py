"""Notes that an account was made, from the first event in the topic on, in no particular order."""

from __future__ import annotations

from playhead import IO, Client, event_trigger
from playhead_schemas.user import UserCreated

client = Client("acme")


@client.job(
    id="audit-log",
    name="Audit log",
    version="1.0.0",
    trigger=event_trigger(UserCreated),
    start="earliest",  # an audit is complete: users who signed up before this job existed count too
    order="none",  # entries have their own time, so nobody waits for anybody
)
async def audit_log(payload: UserCreated, io: IO) -> dict[str, str]:
    event = io.run.event
    # Whose account, when, and what caused it; no name or address: logs are read by more people than the user agreed to.
    io.logger.info("account created", user_id=payload.user_id, at=event.time, correlation_id=event.correlation_id)
    return {"userId": payload.user_id, "at": event.time}
