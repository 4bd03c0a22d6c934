"""A loop that is blocked for longer than the group waits for a heartbeat."""

from __future__ import annotations

import time

import pytest

from playhead.broker.contract import Committed, Partition
from playhead.broker.kafka import GroupTimings, KafkaBroker
from playhead.config import Settings
from tests.broker.provider import Member, Owner, new_topic, record, unique
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka

SESSION_SECONDS = 6.0
"""The shortest that a broker allows."""


class TestPulse:
    """A blocked loop costs no membership, and is noticed."""

    async def test_member_stays_while_the_loop_is_blocked_for_longer_than_its_session(
        self, kafka_bootstrap: str
    ) -> None:
        timings = GroupTimings(session_ms=int(SESSION_SECONDS * 1000), heartbeat_ms=500)
        broker = KafkaBroker(Settings(bootstrap_servers=kafka_bootstrap), group_timings=timings)
        blocked: list[float] = []
        broker.on_blocked = blocked.append
        await broker.start()
        try:
            topic, owner = await new_topic(broker, 1), Owner()
            member = Member(group := unique("group"), (topic,), await broker.join(group, [topic], owner), owner)
            await wait_until(lambda: owner.epoch is not None)
            told = list(owner.told)
            time.sleep(SESSION_SECONDS + 1.5)  # noqa: ASYNC251  # the blocking itself is under test
            assert max(blocked) > SESSION_SECONDS - 1
            assert time.monotonic() - member.membership.last_heartbeat < 2
            before = member.membership.last_heartbeat
            await wait_until(lambda: member.membership.last_heartbeat > before)
            assert owner.told == told
            commit = member.commit_of({Partition(topic, 0): 1}, [record(topic, 0, "a")])
            assert await member.membership.commit(commit) == Committed()
        finally:
            await broker.stop()
