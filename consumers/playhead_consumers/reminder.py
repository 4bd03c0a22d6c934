"""Tells users what they asked to be reminded of, when the event for it comes."""

from __future__ import annotations

from playhead import IO, Client, event_trigger
from playhead_consumers.mail import Message, address_of, deliver
from playhead_schemas.email import EmailSent
from playhead_schemas.reminder import ReminderSend

client = Client("acme")


@client.job(id="reminder", name="Reminder", version="1.0.0", trigger=event_trigger(ReminderSend))
async def reminder(payload: ReminderSend, io: IO) -> dict[str, str]:
    to = address_of(payload.user_id)
    await deliver(Message(to, "Your reminder", payload.message), idempotency_key=io.run.id)
    io.logger.info("reminded", user_id=payload.user_id)
    await io.send_event(EmailSent(to=to, subject="Your reminder", template="reminder", user_id=payload.user_id))
    return {"sentTo": to}
