"""Groups from outside: who is in one, and setting the checkpoints of one that is empty."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.commit import OffsetCommitRequest

from playhead.broker.contract import GroupInfo, Mark, Partition
from playhead.broker.kafka import faults
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import GROUP, ORDINARY, Link, LostError, Patience
from playhead.broker.kafka.offsets import Offsets, by_topic
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable, InvalidInput

_NO_GENERATION, _NO_MEMBER, _BROKER_RETENTION = -1, "", -1


class Groups:
    """Queries and resets; membership is elsewhere."""

    def __init__(self, link: Link, offsets: Offsets, clock: Clock, limit_seconds: float) -> None:
        self._link = link
        self._offsets = offsets
        self._clock = clock
        self._limit_seconds = limit_seconds

    async def describe(self, group: str) -> GroupInfo:
        """Who is in the group, which partitions they hold, and what it has committed.

        Raises:
            NotAuthorized, BrokerUnavailable.
        """
        answer = await self._ask(
            group, DescribeGroupsRequest([group]), f"describing group {group!r}", lambda a: {a.groups[0][0]}
        )
        _, _, state, _, _, members, *_ = answer.groups[0]
        checkpoints = await self._offsets.of_group(group, None, stable=False)
        return GroupInfo(
            name=group,
            state=re.sub(r"(?<=[a-z])(?=[A-Z])", "_", state).lower(),
            members={member_id: _held(assignment) for member_id, _, _, _, assignment in members},
            checkpoints={partition: mark for partition, mark in checkpoints.items() if mark is not None},
        )

    async def reset(self, group: str, checkpoints: Mapping[Partition, Mark]) -> None:
        """Set the checkpoints of a group that has no members.

        Raises:
            InvalidInput: it has.
            NotAuthorized, BrokerUnavailable.
        """
        if members := (await self.describe(group)).members:
            raise _has_members(group, len(members))
        marks = by_topic((p.topic, (p.partition, mark.offset, mark.metadata)) for p, mark in checkpoints.items())
        request = OffsetCommitRequest(group, _NO_GENERATION, _NO_MEMBER, _BROKER_RETENTION, marks)
        await self._ask(
            group,
            request,
            f"resetting group {group!r}",
            lambda answer: {code for _, entries in answer.topics for _, code in entries},
        )

    async def _ask(self, group: str, request: Any, doing: str, codes_of: Callable[[Any], set[int]]) -> Any:
        patience = Patience(self._clock, self._limit_seconds)
        while True:
            node = await self._link.coordinator(GROUP, group, patience)
            try:
                answer = await self._link.send(node, request, ORDINARY, patience)
            except LostError as lost:
                reason = str(lost)
                self._link.forget_coordinator(GROUP, group)
            else:
                codes = codes_of(answer) - {faults.NONE}
                if not codes:
                    return answer
                for code in codes:
                    if faults.next_after(code) is Next.FENCED:  # a member joined since
                        raise _has_members(group, 1)
                    if faults.next_after(code) is not Next.AGAIN:
                        raise faults.raised(code, doing)
                    if faults.moved(code):
                        self._link.forget_coordinator(GROUP, group)
                reason = ", ".join(faults.name(code) for code in codes)
            if not await patience.pause():
                raise BrokerUnavailable(f"{doing}: {reason}.")


def _has_members(group: str, count: int) -> InvalidInput:
    return InvalidInput(f"group {group!r} has {count} member(s).", remedy="Stop its workers first.")


def _held(assignment: bytes) -> frozenset[Partition]:
    if not assignment:
        return frozenset()
    partitions = ConsumerProtocolMemberAssignment.decode(assignment).partitions()
    return frozenset(Partition(*partition) for partition in partitions)
