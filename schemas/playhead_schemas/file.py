"""Entity `file`: uploads and what became of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from playhead import TypedEvent
from playhead_schemas.fields import FileId, UserId


class FileUploaded(TypedEvent, name="file.uploaded", key="file_id"):
    """The bytes are in the store, nobody has looked at them."""

    file_id: FileId
    filename: str = Field(min_length=1, description="As the user named it; not a path in the store.")
    size_bytes: int | None = Field(default=None, ge=0)
    user_id: UserId | None = Field(default=None, description="Who uploaded it, where that is known.")


class FileProcessed(TypedEvent, name="file.processed", key="file_id"):
    """A job has looked at the bytes."""

    file_id: FileId
    processing_result: Literal["success", "failure"]
    reason: str | None = Field(default=None, description="Why it failed.")
    user_id: UserId | None = Field(default=None, description="Who uploaded it, where that is known.")
