"""The fixture that runs the conformance suite on each implementation of the broker contract."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from playhead.broker.contract import Broker
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.memory_provider import MemoryProvider
from tests.broker.provider import Provider


@pytest.fixture(params=["memory", "memory-late-markers", pytest.param("kafka", marks=pytest.mark.kafka)])
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[Provider]:
    """An implementation of the contract with a client that is started."""
    under_test: Provider
    if request.param == "kafka":
        under_test = KafkaProvider(request.getfixturevalue("kafka_bootstrap"))
    else:
        under_test = MemoryProvider(marker_latency_seconds=0.003 if request.param == "memory-late-markers" else 0.0)
    await under_test.broker.start()
    try:
        yield under_test
    finally:
        await under_test.close()


@pytest.fixture
def client(provider: Provider) -> Broker:
    """The provider's client."""
    return provider.broker
