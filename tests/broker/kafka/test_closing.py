"""What closing leaves behind where the broker is away: nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from playhead.broker.contract import Partition, Record, TopicInfo
from playhead.broker.kafka.appending import Appender
from playhead.broker.kafka.link import LostError
from playhead.clock import SYSTEM_CLOCK
from playhead.errors import BrokerUnavailable

LIMIT_SECONDS = 0.05


class NobodyAnswers:
    """A link, and the topics that it knew before the broker went away."""

    def leader(self, _partition: Partition) -> int:
        return 1

    def any_node(self) -> int:
        return 1

    async def send(self, *_request: object) -> None:
        raise LostError("connection refused", sent=False)

    async def relocate(self, _topics: set[str]) -> bool:
        return False

    def known(self, name: str) -> TopicInfo:
        return TopicInfo(name, 1, 1, 1_000_000)


async def test_a_client_that_is_closed_while_the_broker_is_away_leaves_no_task() -> None:
    away: Any = NobodyAnswers()
    appender = Appender(away, away, SYSTEM_CLOCK, LIMIT_SECONDS)
    (result,) = await appender.append([Record("user", 0, b"7", b"{}", [], 0)])
    assert isinstance(result, BrokerUnavailable)

    await appender.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
