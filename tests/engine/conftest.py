"""What the engine's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.engine.scene import Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A scene that is not open yet; whatever a test leaves in it is ended."""
    made = Scene()
    yield made
    await made.close()
