"""How a group divides its tasks: whole, evenly, and with as few changes of hands as possible.

Each member says who it is and what it owned; the leader of the generation decides; every member hears, with its own
part, the writers of all:

    member ──JoinGroup──▶ Claim(writer, generation, tasks)
                                          leader: assign()
    member ◀──SyncGroup── partitions of its tasks, writers of all members

A claim from an older generation loses against a newer one: a member that was thrown out and comes back still believes
that it owns what others have been given since.
"""

# pyright: reportIncompatibleMethodOverride=false
# aiokafka's abstract methods name their parameters otherwise.

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

NAME = "playhead-tasks"
"""The protocol's name: a group whose members do not all speak it refuses the others (INCONSISTENT_GROUP_PROTOCOL)."""

_VERSION = 0
"""Of Kafka's consumer protocol."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a member says of itself: its writer, and the tasks that it was last given, in which generation."""

    writer: str
    generation: int = -1
    tasks: frozenset[int] = frozenset()

    def encode(self) -> bytes:
        return json.dumps({"writer": self.writer, "generation": self.generation, "tasks": sorted(self.tasks)}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Claim:
        claim = json.loads(data)
        return cls(claim["writer"], claim["generation"], frozenset(claim["tasks"]))


def divide(task_count: int, claims: Mapping[str, Claim]) -> dict[str, frozenset[int]]:
    """Every task to exactly one member, none with two more than another; owners keep what the balance allows.

    Pure and deterministic: the same claims give the same division, whoever computes it.
    """
    owners: dict[int, str] = {}
    for member in sorted(claims, key=lambda member: (claims[member].generation, member)):
        owners.update(dict.fromkeys(claims[member].tasks, member))  # a newer generation overwrites an older one
    held: dict[str, list[int]] = {member: [] for member in sorted(claims)}
    for task in range(task_count):
        if task in owners:
            held[owners[task]].append(task)
    share, extra = divmod(task_count, len(claims))
    limits = {}
    for member in sorted(held, key=lambda member: (-len(held[member]), member)):
        limits[member] = share + (1 if extra > 0 else 0)  # who holds most keeps the odd ones
        extra -= 1
    kept = {member: tasks[: limits[member]] for member, tasks in held.items()}
    free = sorted(set(range(task_count)).difference(*kept.values()))
    for member in sorted(kept, key=lambda member: (len(kept[member]), member)):
        room = limits[member] - len(kept[member])
        kept[member] += free[:room]
        del free[:room]
    return {member: frozenset(tasks) for member, tasks in kept.items()}


class TaskAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """aiokafka's hook for `divide`: one instance per membership."""

    def __init__(self, claim: Callable[[], Claim], on_assignment: Callable[[frozenset[int], frozenset[str]], None]):
        self._claim = claim
        self._on_assignment = on_assignment

    @property
    def name(self) -> str:
        return NAME

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        return ConsumerProtocolMemberMetadata(_VERSION, sorted(topics), self._claim().encode())

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        claims = {member: Claim.decode(metadata.user_data) for member, metadata in members.items()}
        writers = json.dumps(sorted(claim.writer for claim in claims.values())).encode()
        sizes = {
            topic: len(cluster.partitions_for_topic(topic) or ())
            for metadata in members.values()
            for topic in metadata.subscription
        }
        division = divide(max(sizes.values(), default=0), claims)
        return {
            member: ConsumerProtocolMemberAssignment(
                _VERSION,
                [
                    (topic, part)
                    for topic in metadata.subscription  # while versions of a job are rolled, not all read the same
                    if (part := sorted(task for task in division[member] if task < sizes[topic]))
                ],
                writers,
            )
            for member, metadata in members.items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        tasks = frozenset(partition for _, partitions in assignment.assignment for partition in partitions)
        self._on_assignment(tasks, frozenset(json.loads(assignment.user_data)))
