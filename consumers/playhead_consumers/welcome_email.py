"""Greets new users. The first of three jobs on `user.created`: each of them sees every event (broadcast)."""

from __future__ import annotations

from playhead import IO, Client, event_trigger
from playhead_consumers.mail import Message, deliver
from playhead_schemas.email import EmailSent
from playhead_schemas.user import UserCreated

client = Client("acme")


@client.job(id="welcome-email", name="Welcome email", version="1.0.0", trigger=event_trigger(UserCreated))
async def welcome_email(payload: UserCreated, io: IO) -> dict[str, str]:
    message = Message(payload.email, "Welcome!", f"Hello {payload.name or 'there'}, good to have you here.")
    # The run's id is the same however often the run has to start: the mail service delivers once.
    await deliver(message, idempotency_key=io.run.id)
    io.logger.info("welcomed", user_id=payload.user_id)
    # Written with the end of this run, or not at all.
    await io.send_event(
        EmailSent(to=payload.email, subject=message.subject, template="welcome", user_id=payload.user_id)
    )
    return {"sentTo": payload.email}
