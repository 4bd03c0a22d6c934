"""Sends a receipt for each payment that succeeded."""

from __future__ import annotations

from playhead import IO, Client, event_trigger
from playhead_consumers.mail import Message, address_of, deliver
from playhead_schemas.email import EmailSent
from playhead_schemas.payment import PaymentSucceeded

client = Client("acme")


@client.job(id="receipt", name="Payment receipt", version="1.0.0", trigger=event_trigger(PaymentSucceeded))
async def receipt(payload: PaymentSucceeded, io: IO) -> dict[str, str]:
    to = payload.email or address_of(payload.customer_id)
    total = f"{payload.amount:.2f} {payload.currency}"
    message = Message(to, f"Your receipt over {total}", f"We have received {total}. Thank you.")
    await deliver(message, idempotency_key=io.run.id)
    io.logger.info("receipt sent", customer_id=payload.customer_id, total=total)
    await io.send_event(EmailSent(to=to, subject=message.subject, template="receipt", user_id=payload.customer_id))
    return {"sentTo": to, "total": total}
