"""Entity `document`: what people write together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from playhead import TypedEvent
from playhead_schemas.fields import DocumentId, UserId


class DocumentShared(TypedEvent, name="document.shared", key="document_id"):
    """An owner let others see or edit a document."""

    document_id: DocumentId
    owner_id: UserId
    shared_with: list[UserId] = Field(min_length=1, description="Ids of the users who may use it from now on.")
    permission: Literal["view", "edit"] = "view"
