"""Topics: what they are, cached for as long as metadata is; and making new ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.metadata import MetadataRequest

from playhead.broker.contract import TopicInfo
from playhead.broker.kafka import faults
from playhead.broker.kafka.faults import Next
from playhead.broker.kafka.link import ORDINARY, Link, LostError, Patience
from playhead.broker.kafka.metadata import TopicRequest
from playhead.clock import Clock
from playhead.errors import BrokerUnavailable, NotAuthorized, TopicMisfit, UnknownTopic
from playhead.topics import MAX_MESSAGE_BYTES, TopicSpec

_TOPIC_RESOURCE = 2
"""DescribeConfigs' resource type."""
_SETTINGS = (
    "cleanup.policy",
    "compression.type",
    "delete.retention.ms",
    "max.message.bytes",
    "message.timestamp.type",
    "min.cleanable.dirty.ratio",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
)
"""The settings that are asked for; asking for all is several times as long."""
_MISFIT = frozenset({17, 37, 38, 39, 40, 42, 44})
"""INVALID_TOPIC, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG,
INVALID_REQUEST, POLICY_VIOLATION."""


class Topics:
    """The topics of the cluster."""

    def __init__(self, link: Link, clock: Clock, *, limit_seconds: float, max_age_seconds: float) -> None:
        self._link = link
        self._clock = clock
        self._limit_seconds = limit_seconds
        self._max_age_seconds = max_age_seconds
        self._cache: dict[str, tuple[TopicInfo, float]] = {}

    def peek(self, name: str) -> TopicInfo | None:
        """The last answer, however old."""
        entry = self._cache.get(name)
        return entry[0] if entry else None

    def known(self, name: str) -> TopicInfo | None:
        """The last answer, while it is young enough."""
        entry = self._cache.get(name)
        if entry is None or self._clock.monotonic() - entry[1] > self._max_age_seconds:
            return None
        return entry[0]

    async def topic(self, name: str, *, fresh: bool = False) -> TopicInfo:
        """One topic; `fresh` asks the broker even if the answer is known.

        Raises:
            UnknownTopic, NotAuthorized, BrokerUnavailable.
        """
        if not fresh and (info := self.known(name)) is not None:
            return info
        return await self._describe(name)

    async def all(self) -> list[TopicInfo]:
        """Every topic that these credentials may see, without the broker's own, by name."""
        answer = await self._ask(MetadataRequest(None, allow_auto_topic_creation=False), "listing topics")
        shapes = {
            name: _shape(partitions)
            for code, name, internal, partitions in answer.topics
            if code == faults.NONE and not internal and not name.startswith("__")
        }
        return await self._remember(dict(sorted(shapes.items())))

    async def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create those that do not exist, wait until every broker knows their leaders, and name them.

        Raises:
            NotAuthorized, BrokerUnavailable.
            TopicMisfit: the broker refuses a setting.
        """
        created = []
        waiting = {spec.name: spec for spec in specs}
        reason = "creating topics: the broker's answer names none"
        patience = Patience(self._clock, self._limit_seconds)
        while waiting:
            answer = await self._ask(_creation(waiting.values(), self._limit_seconds), "creating topics", patience)
            for name, code, message in answer.topic_errors:
                reason = f"topic {name!r}: {message or faults.name(code)}"
                if code == faults.NONE:
                    created.append(name)
                elif code in _MISFIT:
                    raise TopicMisfit(f"{reason}.")
                elif code != faults.TOPIC_ALREADY_EXISTS and faults.next_after(code) is not Next.AGAIN and code != 41:
                    raise faults.raised(code, f"creating topic {name!r}")
                if code in (faults.NONE, faults.TOPIC_ALREADY_EXISTS):
                    waiting.pop(name, None)
            if waiting and not await patience.pause():
                raise BrokerUnavailable(f"{reason}.")
        await self._await_leaders([spec.name for spec in specs], patience)
        return created

    async def _await_leaders(self, names: Sequence[str], patience: Patience) -> None:
        if not names:
            return
        request = MetadataRequest(list(names), allow_auto_topic_creation=False)
        lagging = set(self._link.nodes())
        while lagging:
            for node in sorted(lagging):
                try:
                    answer = await self._link.send(node, request, ORDINARY, patience)
                except LostError:
                    continue
                if all(code == faults.NONE and _led(partitions) for code, _, _, partitions in answer.topics):
                    lagging.discard(node)
            if lagging and not await patience.pause():
                raise BrokerUnavailable(f"brokers {sorted(lagging)} do not know the leaders of {', '.join(names)} yet.")

    async def _describe(self, name: str) -> TopicInfo:
        answer = await self._ask(TopicRequest(name), "describing topics")
        code, topic_id, *shape = answer.topic()
        if code in (faults.UNKNOWN_TOPIC_OR_PARTITION, faults.INVALID_TOPIC):
            self._cache.pop(name, None)
            self._link.untrack(name)
            raise UnknownTopic(name)
        if code == faults.TOPIC_AUTHORIZATION_FAILED:
            raise NotAuthorized(f"the broker does not let these credentials describe topic {name!r}.")
        if code not in (faults.NONE, faults.LEADER_NOT_AVAILABLE):
            raise faults.raised(code, f"describing topic {name!r}")
        (info,) = await self._remember({name: (shape[0], shape[1])}, topic_id=topic_id)
        return info

    async def _remember(self, shapes: Mapping[str, tuple[int, int]], *, topic_id: str = "") -> list[TopicInfo]:
        """The topics of these shapes (partitions, replication) with their settings, which are cached."""
        settings = await self._settings(shapes) if shapes else {}
        now = self._clock.monotonic()
        infos = []
        for name, shape in shapes.items():
            config = settings.get(name, {})
            info = TopicInfo(name, *shape, int(config.get("max.message.bytes", MAX_MESSAGE_BYTES)), config, topic_id)
            self._cache[name] = info, now
            infos.append(info)
        return infos

    async def _settings(self, names: Iterable[str]) -> dict[str, Mapping[str, str]]:
        """The settings of each topic; nothing for one whose settings these credentials may not read."""
        request = DescribeConfigsRequest([(_TOPIC_RESOURCE, name, list(_SETTINGS)) for name in names])
        answer = await self._ask(request, "describing settings")
        return {
            name: {entry[0]: entry[1] for entry in entries}
            for code, _, _, name, entries in answer.resources
            if code == faults.NONE
        }

    async def _ask(self, request: Any, doing: str, patience: Patience | None = None) -> Any:
        """Any broker's answer.

        Raises:
            BrokerUnavailable.
        """
        patience = patience or Patience(self._clock, self._limit_seconds)
        while True:
            try:
                return await self._link.send(self._link.any_node(), request, ORDINARY, patience)
            except LostError as lost:
                if not await patience.pause():
                    raise BrokerUnavailable(f"{doing}: no broker answers at {self._link.servers}: {lost}.") from lost


def _shape(partitions: Sequence[Any]) -> tuple[int, int]:
    """How many partitions, and how many replicas of each."""
    return len(partitions), len(partitions[0][3]) if partitions else 0


def _led(partitions: Sequence[Any]) -> bool:
    return bool(partitions) and all(partition[2] >= 0 for partition in partitions)


def _creation(specs: Iterable[TopicSpec], limit_seconds: float) -> CreateTopicsRequest:
    wanted: Any = [(spec.name, spec.partitions, spec.replication, [], list(spec.config.items())) for spec in specs]
    return CreateTopicsRequest(wanted, int(limit_seconds * 1000), False)
