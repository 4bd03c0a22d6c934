"""Leaving before anything was given."""

from __future__ import annotations

import asyncio
import logging

import pytest

from playhead.broker.contract import Partition
from playhead.errors import Fenced
from tests.broker.kafka_provider import KafkaProvider
from tests.broker.provider import join, new_topic, settled, sole_member

pytestmark = pytest.mark.kafka


class TestLeavingBeforeTheFirstAssignment:
    """A member that leaves while it still joins does so without a trace."""

    @pytest.mark.parametrize("turns", [0, 1, 5, 50])
    async def test_nothing_is_raised_logged_or_told(
        self, provider: KafkaProvider, caplog: pytest.LogCaptureFixture, turns: int
    ) -> None:
        topic = await new_topic(provider.broker, 1)
        with caplog.at_level(logging.WARNING):
            member = await join(provider, f"leaving-{topic}", topic)
            for _ in range(turns):  # how far joining has come by then
                await provider.broker.bounds([Partition(topic, 0)])
            given = bool(member.owner.told)  # it may still be, before `leave` has begun
            await member.membership.leave()
        assert [entry.getMessage() for entry in caplog.records] == []
        told = [word for word, _ in member.owner.told]
        assert told == ["assigned", "revoked"] or (not given and told == [])
        with pytest.raises(Fenced):
            await member.membership.fetch(1)

    async def test_fetch_that_waits_for_the_assignment_ends(
        self, provider: KafkaProvider, caplog: pytest.LogCaptureFixture
    ) -> None:
        topic = await new_topic(provider.broker, 1)
        with caplog.at_level(logging.WARNING):
            member = await join(provider, f"leaving-{topic}", topic)
            fetching = asyncio.create_task(member.membership.fetch(1))
            await asyncio.sleep(0)
            await member.membership.leave()
            async with asyncio.timeout(5):
                (ended,) = await asyncio.gather(fetching, return_exceptions=True)
        assert ended == {} or isinstance(ended, Fenced)
        assert [entry.getMessage() for entry in caplog.records] == []

    async def test_others_go_on_with_every_task(
        self, provider: KafkaProvider, caplog: pytest.LogCaptureFixture
    ) -> None:
        topic = await new_topic(provider.broker, 2)
        first = await sole_member(provider, topic, tasks=2)
        with caplog.at_level(logging.ERROR):
            second = await join(provider, first.group, topic)
            await second.membership.leave()
            await settled(first, tasks=2)
        assert [entry.getMessage() for entry in caplog.records] == []
