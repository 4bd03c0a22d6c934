"""The broker contract: topics."""

from __future__ import annotations

import pytest

from playhead.broker.contract import Broker
from playhead.errors import TopicMisfit, UnknownTopic
from playhead.topics import TopicSpec
from tests.broker.provider import Owner, append, new_topic, record, unique


class TestCreatingTopics:
    """Creating is repeatable, and says what it did."""

    async def test_only_what_is_missing_is_created_and_named(self, client: Broker) -> None:
        first, second = unique("topic"), unique("topic")
        assert await client.create_topics([TopicSpec(first, 2)]) == [first]
        assert await client.create_topics([TopicSpec(first, 2), TopicSpec(second, 3)]) == [second]
        assert await client.create_topics([TopicSpec(first, 2), TopicSpec(second, 3)]) == []

    async def test_topic_that_exists_keeps_its_records_and_partitions(self, client: Broker) -> None:
        topic = await new_topic(client, 2)
        await append(client, record(topic, 1, "a"))
        await client.create_topics([TopicSpec(topic, 8)])
        assert (await client.topic(topic)).partitions == 2
        assert await append(client, record(topic, 1, "b")) == [1]

    async def test_created_topic_can_be_used_at_once(self, client: Broker) -> None:
        for _ in range(5):
            topic = await new_topic(client, 3)
            assert await append(client, *(record(topic, i, "a") for i in range(3))) == [0, 0, 0]

    async def test_setting_that_the_broker_refuses_is_a_misfit(self, client: Broker) -> None:
        with pytest.raises(TopicMisfit):
            await client.create_topics([TopicSpec(unique("topic"), 1, config={"cleanup.policy": "sometimes"})])


class TestDescribingTopics:
    """A topic is described as it is."""

    async def test_topic_is_described_with_its_settings(self, client: Broker) -> None:
        topic = await new_topic(client, 3, cleanup_policy="compact", max_message_bytes="2000")
        info = await client.topic(topic)
        assert (info.name, info.partitions, info.replication) == (topic, 3, 1)
        assert info.max_message_bytes == 2_000
        assert info.config["cleanup.policy"] == "compact"

    async def test_topic_has_an_id_that_no_other_has(self, client: Broker) -> None:
        first, second = await new_topic(client), await new_topic(client)
        ids = {(await client.topic(topic)).id for topic in (first, second, first)}
        assert len(ids) == 2
        assert "" not in ids

    async def test_topic_without_settings_takes_kafkas_message_size(self, client: Broker) -> None:
        assert (await client.topic(await new_topic(client))).max_message_bytes == 1_048_588

    async def test_topic_that_is_not_there_is_unknown(self, client: Broker) -> None:
        with pytest.raises(UnknownTopic):
            await client.topic(unique("absent"))

    async def test_asking_for_a_topic_does_not_create_it(self, client: Broker) -> None:
        topic = unique("absent")
        for _ in range(2):
            with pytest.raises(UnknownTopic):
                await client.topic(topic)
        assert topic not in {info.name for info in await client.topics()}

    async def test_known_topic_answers_without_waiting_once_it_was_asked_for(self, client: Broker) -> None:
        topic = await new_topic(client, 3)
        assert await client.topic(topic) == client.known_topic(topic)
        assert client.known_topic(unique("absent")) is None

    async def test_list_has_every_topic_and_none_of_the_brokers_own(self, client: Broker) -> None:
        topics = {await new_topic(client, 2), await new_topic(client, 3)}
        names = {info.name for info in await client.topics()}
        assert topics <= names
        assert not {name for name in names if name.startswith("__")}

    async def test_joining_for_a_topic_that_is_not_there_is_an_unknown_topic(self, client: Broker) -> None:
        with pytest.raises(UnknownTopic):
            await client.join(unique("group"), [unique("absent")], Owner())
