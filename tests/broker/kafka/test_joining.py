"""Connecting and joining where somebody is slow, late or somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer  # noqa: TID251 -- a member that is not Playhead's

from playhead.broker.contract import Epoch
from playhead.broker.kafka import GroupTimings, KafkaBroker
from playhead.config import Settings
from playhead.dev import ports
from playhead.errors import BrokerUnavailable, InvalidInput
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import Member, Owner, join, new_topic, settled, sole_member, unique
from tests.broker_fixture import NewLocalKafka
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka


class TestStarting:
    """A broker that is not there is waited for, not longer than a send."""

    async def test_nobody_there_is_unavailable_in_time(self) -> None:
        broker = KafkaBroker(Settings(bootstrap_servers=f"127.0.0.1:{ports.pick_free()}", send_timeout_seconds=0.3))
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=broker._settings.bootstrap_servers):
            await broker.start()
        assert time.monotonic() - began < 2

    async def test_listener_that_never_answers_is_unavailable_in_time(self) -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            broker = KafkaBroker(Settings(bootstrap_servers=f"127.0.0.1:{port}", send_timeout_seconds=0.3))
            with pytest.raises(BrokerUnavailable):
                await broker.start()
        finally:
            server.close()
            await server.wait_closed()

    async def test_broker_that_comes_a_moment_later_is_found(self, own_broker: NewLocalKafka) -> None:
        port = ports.pick_free()
        broker = KafkaBroker(Settings(bootstrap_servers=f"127.0.0.1:{port}", send_timeout_seconds=60))
        starting = asyncio.create_task(broker.start())
        await asyncio.to_thread(own_broker, port=port)
        async with asyncio.timeout(10):
            await starting
        try:
            assert await broker.topics() == []
        finally:
            await broker.stop()


class TestSlowRebalance:
    """A JoinGroup is answered when the last member has let go; that is no timeout and holds nobody who leaves."""

    async def test_join_outlasts_the_request_timeout(self, kafka_bootstrap: str, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        first = await sole_member(provider, topic, tasks=2)
        may_let_go = asyncio.Event()

        async def hold(_: Epoch) -> None:
            await may_let_go.wait()

        first.owner.before_release = hold
        hasty = KafkaBroker(Settings(bootstrap_servers=kafka_bootstrap, send_timeout_seconds=0.2))
        await hasty.start()
        try:
            owner = Owner()
            second = Member(first.group, (topic,), await hasty.join(first.group, [topic], owner), owner)
            coordinator = second.membership._consumer._coordinator  # type: ignore[attr-defined]
            await wait_until(lambda: coordinator.member_id != "")
            member_id = coordinator.member_id
            deadline = time.monotonic() + 1.0  # five times the request timeout
            await wait_until(lambda: time.monotonic() > deadline)
            may_let_go.set()
            await settled(first, second, tasks=2)
            assert second.epoch.member_id == member_id
        finally:
            await hasty.stop()

    async def test_member_leaves_while_it_waits_for_another_to_let_go(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        first = await sole_member(provider, topic, tasks=2)
        holding, may_let_go = asyncio.Event(), asyncio.Event()

        async def hold(_: Epoch) -> None:
            holding.set()
            await may_let_go.wait()

        first.owner.before_release = hold
        second = await join(provider, first.group, topic)
        await holding.wait()
        async with asyncio.timeout(5):
            await second.membership.leave()
        may_let_go.set()
        await settled(first, tasks=2)

    async def test_owner_that_never_lets_go_loses_its_tasks(
        self, kafka_bootstrap: str, provider: KafkaProvider
    ) -> None:
        topic, group = await new_topic(provider.broker, 2), unique("group")
        timings = GroupTimings(heartbeat_ms=100, rebalance_ms=2_000)
        broker = KafkaBroker(Settings(bootstrap_servers=kafka_bootstrap), group_timings=timings)
        await broker.start()
        try:
            owner = Owner()
            stubborn = Member(group, (topic,), await broker.join(group, [topic], owner), owner)
            await settled(stubborn, tasks=2)
            epoch = stubborn.epoch

            async def hold(_: Epoch) -> None:
                await asyncio.Event().wait()

            owner.before_release = hold
            other = await join(provider, group, topic)
            await wait_until(lambda: other.owner.epoch is not None and stubborn.owner.epoch != epoch)
            owner.before_release = None
            await settled(stubborn, other, tasks=2)
        finally:
            await broker.stop()

    async def test_owner_that_fails_to_let_go_goes_on(self, provider: KafkaProvider) -> None:
        topic = await new_topic(provider.broker, 2)
        first = await sole_member(provider, topic, tasks=2)

        async def fail(_: Epoch) -> None:
            raise RuntimeError("the engine is broken")

        first.owner.before_release = fail
        second = await join(provider, first.group, topic)
        await settled(first, second, tasks=2)
        first.owner.before_release = None


def coordinator_has_news_for(member: Member) -> Callable[[], bool]:
    """Whether aiokafka holds an error that the next fetch raises."""
    return lambda: member.membership._consumer._coordinator._pending_exception is not None  # type: ignore[attr-defined]


class TestForeignMember:
    """A group that others use with another protocol is not shared with them."""

    async def test_group_of_another_protocol_is_told(self, kafka_bootstrap: str, provider: KafkaProvider) -> None:
        topic, group = await new_topic(provider.broker, 1), unique("group")
        foreign = AIOKafkaConsumer(topic, group_id=group, bootstrap_servers=kafka_bootstrap)
        await foreign.start()
        try:
            member = await join(provider, group, topic)
            await wait_until(coordinator_has_news_for(member))
            with pytest.raises(InvalidInput, match="not Playhead's"):
                await member.membership.fetch(1)
        finally:
            await foreign.stop()

        async def joined() -> bool:
            with contextlib.suppress(InvalidInput):  # it tries again each time that it has told
                await member.membership.fetch(1)
            return member.tasks == {0}

        await wait_until(joined)
