"""Records that the broker refuses: named, alone, and without holding anybody up."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient  # noqa: TID251 -- the contract has no word for deleting a topic

from playhead.broker.contract import Appended, Committed, Partition, Record, Refused
from playhead.errors import EventTooLarge, InvalidInput, UnknownTopic
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import append, new_topic, read, read_all, record, sole_member, values
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka


async def delete_topic(provider: KafkaProvider, topic: str) -> None:
    """Delete it, and wait until the broker has."""
    admin = AIOKafkaAdminClient(bootstrap_servers=provider._settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def gone() -> bool:
            return topic not in await admin.list_topics()

        await wait_until(gone)
    finally:
        await admin.close()


class TestRefusedInACommit:
    """`Refused` names as few records as the broker allows, and nothing is left open."""

    async def test_broker_that_names_a_record_is_taken_at_its_word(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 1)
        compacted = await new_topic(provider.broker, 1, cleanup_policy="compact")  # refuses what has no key, by index
        member = await sole_member(provider, topic, tasks=1)
        records = [
            record(topic, 0, "neighbour"),
            *(record(compacted, 0, f"{n}", key=None if n == 2 else "k") for n in range(5)),
        ]
        commit = member.commit_of({Partition(topic, 0): 1}, records)
        outcome = await member.membership.commit(commit)
        assert isinstance(outcome, Refused)
        assert outcome.suspects == (3,)
        assert records[3].key is None

    async def test_too_large_record_is_the_only_suspect(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 1)
        small = await new_topic(provider.broker, 2, max_message_bytes="2000")
        member = await sole_member(provider, topic, tasks=1)
        records = [record(small, n % 2, "x" * (3_000 if n == 5 else 300)) for n in range(20)]
        outcome = await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, records))
        assert isinstance(outcome, Refused)
        assert outcome.suspects == (5,)

    async def test_many_that_fit_alone_are_not_refused_together(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 1)
        small = await new_topic(provider.broker, 1, max_message_bytes="2000")
        member = await sole_member(provider, topic, tasks=1)
        records = [record(small, 0, f"{n}" + "x" * 500) for n in range(20)]
        assert await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, records)) == Committed()
        assert values(await read_all(provider.broker, Partition(small, 0))) == [f"{n}" + "x" * 500 for n in range(20)]

    async def test_limit_that_was_lowered_meanwhile_refuses_and_is_learned(self, provider: KafkaProvider) -> None:
        """The topic's limit is known from before; the broker's refusal names a batch, so all of it is suspected."""
        topic = await new_topic(provider.broker, 1)
        member = await sole_member(provider, topic, tasks=1)
        small = await new_topic(provider.broker, 1, max_message_bytes="2000")
        cached = provider.broker._topics._cache  # type: ignore[attr-defined]
        known = await provider.broker.topic(small)
        cached[small] = known.__class__(small, 1, 1, 1_000_000, {}), cached[small][1]
        commit = member.commit_of({Partition(topic, 0): 1}, [record(small, 0, "x" * 500) for _ in range(10)])
        outcome = await member.membership.commit(commit)
        assert isinstance(outcome, Refused)
        assert outcome.suspects == tuple(range(10))

    async def test_readers_are_not_held_up_by_what_was_refused(self, provider: KafkaProvider) -> None:
        topic, other = await new_topic(provider.broker, 1), await new_topic(provider.broker, 1)
        compacted = await new_topic(provider.broker, 1, cleanup_policy="compact")
        member = await sole_member(provider, topic, tasks=1)
        commit = member.commit_of(
            {Partition(topic, 0): 1}, [record(other, 0, "aborted"), record(compacted, 0, "no key")]
        )
        assert isinstance(await member.membership.commit(commit), Refused)
        await append(provider.broker, record(other, 0, "behind it"))
        end = (await provider.broker.bounds([Partition(other, 0)], committed=False))[Partition(other, 0)][1]
        async with asyncio.timeout(3):  # a transaction left open would hold for 15 s
            assert values(await read(provider.broker, Partition(other, 0), 0, end)) == ["behind it"]

    async def test_partition_that_is_not_there_is_refused(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        member = await sole_member(provider, topic, tasks=2)
        commit = member.commit_of({Partition(topic, 0): 1}, [record(topic, 0, "a"), record(topic, 7, "b")])
        outcome = await member.membership.commit(commit)
        assert isinstance(outcome, Refused)
        assert outcome.suspects == (1,)

    async def test_topic_deleted_after_it_was_known_is_refused_soon(self, provider: KafkaProvider) -> None:
        topic, gone = await new_topic(provider.broker, 1), await new_topic(provider.broker, 1)
        member = await sole_member(provider, topic, tasks=1)
        records = [record(topic, 0, "a"), record(gone, 0, "b")]
        assert await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, records)) == Committed()
        await delete_topic(provider, gone)
        async with asyncio.timeout(3):
            outcome = await member.membership.commit(member.commit_of({Partition(topic, 0): 2}, records))
        assert isinstance(outcome, Refused)
        assert outcome.suspects == (1,)
        assert await member.membership.commit(member.commit_of({Partition(topic, 0): 2}, records[:1])) == Committed()


class TestRefusedAppends:
    """A refused record takes no sequence number: what follows on its partition is written."""

    async def test_appends_go_on_after_a_refusal(self, provider: KafkaProvider) -> None:
        compacted = await new_topic(provider.broker, 1, cleanup_policy="compact")
        for n in range(3):
            (refused,) = await provider.broker.append([record(compacted, 0, f"no key {n}")])
            assert isinstance(refused, InvalidInput)
            assert await append(provider.broker, record(compacted, 0, f"{n}", key=f"{n}")) == [n]

    async def test_neighbours_of_a_refused_record_keep_their_order(self, provider: KafkaProvider) -> None:
        compacted = await new_topic(provider.broker, 1, cleanup_policy="compact")
        records = [record(compacted, 0, f"{n}", key=None if n in (3, 4, 9) else f"{n}") for n in range(12)]
        results = await provider.broker.append(records)
        assert [n for n, result in enumerate(results) if isinstance(result, Exception)] == [3, 4, 9]
        written = [result.offset for result in results if isinstance(result, Appended)]
        assert written == list(range(9))
        found = values(await read_all(provider.broker, Partition(compacted, 0)))
        assert found == [f"{n}" for n in range(12) if n not in (3, 4, 9)]

    async def test_too_large_record_is_told_with_its_sizes(self, provider: KafkaProvider) -> None:
        small = await new_topic(provider.broker, 1, max_message_bytes="2000")
        large = Record(small, 0, None, b"x" * 3_000, [("ce_type", b"user.created")], 0)
        (refused,) = await provider.broker.append([large])
        assert isinstance(refused, EventTooLarge)
        assert (refused.name, refused.limit_bytes) == ("user.created", 2_000)
        assert refused.size_bytes > 3_000

    async def test_batch_that_a_lowered_limit_refuses_is_sent_in_parts(self, provider: KafkaProvider) -> None:
        small = await new_topic(provider.broker, 1, max_message_bytes="2000")
        known = await provider.broker.topic(small)
        cached = provider.broker._topics._cache  # type: ignore[attr-defined]
        cached[small] = known.__class__(small, 1, 1, 1_000_000, {}), cached[small][1]
        records = [record(small, 0, f"{n}" + "x" * (3_000 if n == 4 else 500)) for n in range(10)]
        results = await provider.broker.append(records)
        assert [n for n, result in enumerate(results) if isinstance(result, EventTooLarge)] == [4]
        assert [result.offset for result in results if isinstance(result, Appended)] == list(range(9))

    async def test_topic_deleted_after_it_was_known_is_unknown_soon(self, provider: KafkaProvider) -> None:
        gone = await new_topic(provider.broker, 1)
        await append(provider.broker, record(gone, 0, "a"))
        await delete_topic(provider, gone)
        async with asyncio.timeout(3):
            (result,) = await provider.broker.append([record(gone, 0, "b")])
        assert isinstance(result, UnknownTopic)

    async def test_what_is_no_record_fails_its_own_append_only(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        mistake = Record(topic, 0, None, b"x", (("a", b"b"),), 0)  # type: ignore[arg-type]  # headers are a list
        results = await provider.broker.append([mistake, record(topic, 1, "other partition")])
        assert isinstance(results[0], TypeError)
        assert isinstance(results[1], Appended)
        assert await append(provider.broker, record(topic, 0, "after")) == [0]
