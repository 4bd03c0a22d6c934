"""Entity `reminder`: what users asked to be told later."""

from __future__ import annotations

from pydantic import Field

from playhead import TypedEvent
from playhead_schemas.fields import UserId


class ReminderSend(TypedEvent, name="reminder.send", key="user_id"):
    """The moment has come: tell the user."""

    user_id: UserId
    message: str = Field(min_length=1, description="What the user asked to be reminded of, in the user's words.")
