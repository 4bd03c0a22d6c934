"""What the tests of the Kafka implementation share: one client of the session's broker, and what it sends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.broker.kafka_provider import KafkaProvider


@pytest.fixture
async def provider(kafka_bootstrap: str) -> AsyncIterator[KafkaProvider]:
    """The implementation alone, with a client that is started."""
    under_test = KafkaProvider(kafka_bootstrap)
    await under_test.broker.start()
    try:
        yield under_test
    finally:
        await under_test.close()
