"""Entity `email`: messages that left the house."""

from __future__ import annotations

from pydantic import Field

from playhead import TypedEvent
from playhead_schemas.fields import Email, UserId


class EmailSent(TypedEvent, name="email.sent", key="to"):
    """The mail service took a message. Events of one address stay in order."""

    to: Email
    subject: str
    template: str = Field(description="Which template the message was made from, such as `welcome`.")
    user_id: UserId | None = None
