"""Entity `user`: accounts, from the user service."""

from __future__ import annotations

from pydantic import Field

from playhead import TypedEvent
from playhead_schemas.fields import Email, UserId


class UserCreated(TypedEvent, name="user.created", key="user_id"):
    """Somebody signed up."""

    email: Email
    name: str | None = Field(default=None, examples=["John Doe"])
    user_id: UserId


class UserUpdated(TypedEvent, name="user.updated", key="user_id"):
    """An account changed. Fields that are not there did not change."""

    user_id: UserId
    email: Email | None = None
    name: str | None = None
