"""Sending, without a job around it; and the settings that say where to."""

from __future__ import annotations

import pytest

from playhead.blocking import BlockingClient
from playhead.broker.memory import MemoryBroker
from playhead.client import Client
from playhead.config import Settings
from playhead.errors import BrokerUnavailable, EventTooLarge, InvalidEventName, InvalidSetting, UnknownTopic
from playhead.sending import SentEvent
from playhead.serde import CE_TYPE, MINTED
from playhead.topics import entity_topic


@pytest.fixture
async def broker() -> MemoryBroker:
    made = MemoryBroker()
    await made.create_topics([entity_topic("unit")])
    return made


class TestClient:
    async def test_sent_event_is_where_it_says(self, broker: MemoryBroker) -> None:
        async with Client("c", settings=Settings(), broker=broker) as client:
            sent = await client.send_event("unit.done", {"n": 1}, key="k")
        (record,) = broker.stored("unit")
        assert (sent.topic, sent.partition, sent.offset) == (record.topic, record.partition, record.offset)
        assert record.value == b'{"n":1}'
        assert record.headers[0] == (CE_TYPE, b"unit.done")
        assert MINTED in dict(record.headers)

    async def test_unknown_topic_and_too_large_are_errors_and_write_nothing(self, broker: MemoryBroker) -> None:
        async with Client("c", settings=Settings(), broker=broker) as client:
            with pytest.raises(UnknownTopic):
                await client.send_event("nowhere.done", {})
            with pytest.raises(EventTooLarge):
                await client.send_event("unit.done", {"text": "x" * 800_000})
        assert not broker.stored("unit")

    async def test_broker_that_is_away_is_an_error(self, broker: MemoryBroker) -> None:
        async with Client("c", settings=Settings(), broker=broker) as client:
            broker.faults.unavailable = True
            with pytest.raises(BrokerUnavailable):
                await client.send_event("unit.done", {})
            broker.faults.unavailable = False

    async def test_many_have_a_result_each_in_their_order(self, broker: MemoryBroker) -> None:
        async with Client("c", settings=Settings(), broker=broker) as client:
            results = await client.send_events(
                [("unit.done", {"n": 1}), ("Bad", {}), ("nowhere.x", {}), ("unit.b", {})]
            )
        assert [type(result) for result in results] == [SentEvent, InvalidEventName, UnknownTopic, SentEvent]
        assert len(broker.stored("unit")) == 2


class TestBlockingClient:
    def test_sends_from_a_program_without_a_loop(self) -> None:
        broker = MemoryBroker()
        with BlockingClient("c", settings=Settings(), broker=broker) as client:
            client._call(broker.create_topics([entity_topic("unit")]))
            assert client.send_event("unit.done", {"n": 1}).offset == 0
            (good, bad) = client.send_events([("unit.done", {}), ("nowhere.done", {})])
            assert isinstance(good, SentEvent)
            assert isinstance(bad, UnknownTopic)
        assert len(broker.stored("unit")) == 2
        with pytest.raises(RuntimeError, match="closed"):
            client.send_event("unit.done", {})


class TestSettings:
    def test_are_read_from_the_environment_and_overrides_win(self) -> None:
        env = {"PLAYHEAD_TOPIC_PREFIX": "staging.", "PLAYHEAD_SEND_TIMEOUT_SECONDS": "3", "OTHER": "x"}
        settings = Settings.from_env(env, send_timeout_seconds=4, topic_prefix=None)
        assert (settings.topic_prefix, settings.send_timeout_seconds) == ("staging.", 4.0)

    def test_empty_variable_counts_as_unset(self) -> None:
        assert Settings.from_env({"PLAYHEAD_BOOTSTRAP_SERVERS": ""}) == Settings()

    def test_value_that_can_not_be_used_is_named(self) -> None:
        with pytest.raises(InvalidSetting, match="PLAYHEAD_SEND_TIMEOUT_SECONDS"):
            Settings.from_env({"PLAYHEAD_SEND_TIMEOUT_SECONDS": "soon"})
