"""Entity `test`: for trying an installation by hand."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from playhead import TypedEvent


class TestEvent(TypedEvent, name="test.event"):
    """Somebody tries whether events arrive. It has no key, so it lands on any partition."""

    __test__: ClassVar[bool] = False  # its name begins with Test, and pytest would take it for a group of tests

    message: str = ""
    fail: bool = Field(default=False, description="Makes the job `try-out` fail, to see retries and dead letters.")
