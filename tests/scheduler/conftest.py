"""What the scheduler's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.scheduler.place import Place


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    """A log and a clock, open; whatever a test leaves in it is ended."""
    made = Place()
    await made.open()
    yield made
    await made.close()
