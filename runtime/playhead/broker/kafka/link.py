"""The connections of one process: who leads a partition, who coordinates a group, and one way to ask them.

A broker works on one request of a connection at a time; so what may wait there has a connection (a lane) of its own:

    lane              carries                                        waits at the broker for
    ordinary          metadata, settings, offsets, group queries     nothing
    ("write", n)      Produce of commits                             the replicas
    ("end", n)        TxnOffsetCommit, EndTxn, InitProducerId        the coordinators' logs
    "append"          Produce outside transactions                   the replicas
    ("read", n)       Fetch of `Broker.read`, one reader at a time   new records

Members of groups fetch and heartbeat through a client of their own each (aiokafka's consumer).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterable
from typing import Any

from aiokafka import __version__ as aiokafka_version
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.conn import CloseReason, collect_hosts, create_conn
from aiokafka.helpers import create_ssl_context
from aiokafka.protocol.metadata import MetadataRequest

from playhead.broker.contract import Partition
from playhead.broker.kafka import faults, wire
from playhead.clock import Clock
from playhead.config import Settings
from playhead.errors import BrokerUnavailable, NotAuthorized, UnknownTopic
from playhead.topics import unknown_topic

ORDINARY = ConnectionGroup.DEFAULT
APPEND = "append"
GROUP, TRANSACTION = CoordinationType.GROUP, CoordinationType.TRANSACTION

CLIENT_ID = "playhead"
_REQUEST_TIMEOUT_LIMIT_SECONDS = 10.0
_BROKEN = (CloseReason.CONNECTION_BROKEN, CloseReason.CONNECTION_TIMEOUT, CloseReason.OUT_OF_SYNC)


class LostError(Exception):
    """No answer: the connection could not be made, broke, or stayed silent.

    Attributes:
        sent: whether the broker may have got the request.
    """

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


def _why(error: Exception) -> str:
    """What went wrong, without the address: who says it has named it already."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text has the address
    return str(error) or type(error).__name__


class Patience:
    """Short pauses, 1 ms doubling to 50, until a deadline on the clock."""

    SHORTEST_SECONDS = 0.001
    LONGEST_SECONDS = 0.05

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._deadline = clock.monotonic() + seconds
        self._pause = self.SHORTEST_SECONDS

    @property
    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock.monotonic() >= self._deadline

    @property
    def remaining_seconds(self) -> float:
        """What is left until the deadline; not below zero."""
        return max(0.0, self._deadline - self._clock.monotonic())

    async def pause(self) -> bool:
        """Wait a little, longer each time; False (at once) if the deadline has passed."""
        if self.over:
            return False
        await self._clock.sleep(self._pause)
        self._pause = min(self._pause * 2, self.LONGEST_SECONDS)
        return True


def client_options(settings: Settings) -> dict[str, Any]:
    """What every aiokafka client of this process is built with."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": CLIENT_ID,
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.sasl_password,
        "metadata_max_age_ms": int(settings.metadata_max_age_seconds * 1000),
        "request_timeout_ms": int(request_timeout_seconds(settings) * 1000),
    }
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = create_ssl_context(
            cafile=settings.ssl_cafile, certfile=settings.ssl_certfile, keyfile=settings.ssl_keyfile
        )
    return options


def request_timeout_seconds(settings: Settings) -> float:
    """How long one request may stay unanswered before its connection is given up."""
    return min(settings.send_timeout_seconds, _REQUEST_TIMEOUT_LIMIT_SECONDS)


class _Client(AIOKafkaClient):  # type: ignore[misc]
    """aiokafka's client, except that it asks about the topics in use only, and never creates one by asking.

    As it comes, a client that tracks no topic fetches the metadata of the whole cluster again and again, and every
    metadata request makes a broker with `auto.create.topics.enable` bring deleted topics back.

    Attributes:
        losses: how many connections ended that nobody here has ended.
    """

    losses = 0

    def _on_connection_closed(self, conn: Any, reason: Any) -> None:
        if reason in _BROKEN:
            self.losses += 1
        super()._on_connection_closed(conn, reason)

    async def _metadata_update(self, cluster_metadata: Any, topics: Any) -> bool:
        request = MetadataRequest(sorted(topics), allow_auto_topic_creation=False)
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes:
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                answer = await connection.send(request)
            except (kafka_errors.KafkaError, TimeoutError):
                continue
            if not answer.brokers:
                return False
            cluster_metadata.update_metadata(answer)
            return True
        cluster_metadata.failed_update(None)
        return False


class Link:
    """One process's connections to the cluster."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._client: Any = None
        self._coordinators: dict[tuple[int, str], int] = {}
        self._lost_answers = 0

    @property
    def losses(self) -> int:
        """How often an answer or a connection was lost so far: a broker may have crashed.

        Whoever is idle notices nothing else of a crash: the next request goes out on a new connection.
        """
        return self._lost_answers + (self._client.losses if self._client is not None else 0)

    @property
    def servers(self) -> str:
        """The bootstrap servers, for messages."""
        return self._settings.bootstrap_servers

    def unknown(self, topic: str, partition: int | None = None) -> UnknownTopic:
        """The error for a topic, or a partition of it, that is not there."""
        return unknown_topic(topic, self._settings.topic_prefix, partition)

    async def open(self) -> dict[str, int]:
        """Connect, and answer the features that the cluster has finalized.

        Raises:
            BrokerUnavailable: nobody answers within `send_timeout_seconds`.
            NotAuthorized: somebody does, and refuses the credentials.
        """
        patience = Patience(self._clock, self._settings.send_timeout_seconds)
        reasons: dict[str, str] = {}
        while True:
            for host, port, _ in collect_hosts(self._settings.bootstrap_servers):
                try:
                    features = await self._probe(host, port, patience)
                    self._client = _Client(**client_options(self._settings))
                    await self._client.bootstrap()
                except _REFUSED_CREDENTIALS as error:
                    raise NotAuthorized(f"{host}:{port} refuses the credentials: {error}.") from error
                except (OSError, TimeoutError, kafka_errors.KafkaError) as error:
                    if not isinstance(error, TimeoutError) or f"{host}:{port}" not in reasons:
                        reasons[f"{host}:{port}"] = _why(error)  # the last try has no time left, and says no more
                else:
                    return features
            if not await patience.pause():
                told = "; ".join(f"{address} ({why})" for address, why in reasons.items())
                raise BrokerUnavailable(f"no broker answers at {told}.")

    async def _probe(self, host: str, port: int, patience: Patience) -> dict[str, int]:
        """The finalized features, over a connection of its own whose errors say more than the client's."""
        options = client_options(self._settings)
        for other in ("bootstrap_servers", "metadata_max_age_ms"):
            del options[other]
        options["request_timeout_ms"] = max(1, int(min(patience.remaining_seconds, 5.0) * 1000))
        connection = await create_conn(host, port, **options)
        try:
            answer = await connection.send(wire.ApiVersionsRequest(aiokafka_version))
        finally:
            connection.close()
        return answer.finalized_features()  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Close every connection."""
        if self._client is not None:
            await self._client.close()

    async def send(self, node: int, request: Any, lane: object = ORDINARY, patience: Patience | None = None) -> Any:
        """The node's answer, whatever it says; waited for as long as any request, or as `patience` lasts.

        Raises:
            LostError: there is none.
        """
        try:
            async with asyncio.timeout(patience.remaining_seconds if patience else None):
                return await self._client.send(node, request, group=lane)
        except TimeoutError as error:
            self._lost_answers += 1
            raise LostError(f"node {node} did not answer in time", sent=True) from error
        except kafka_errors.NodeNotReadyError as error:
            raise LostError(str(error), sent=False) from error
        except (kafka_errors.KafkaError, OSError) as error:
            self._lost_answers += 1
            raise LostError(str(error) or type(error).__name__, sent=True) from error

    def now(self) -> float:
        """The clock's monotonic time."""
        return self._clock.monotonic()

    def any_node(self) -> int:
        """Some broker's id."""
        return self._client.get_random_node()  # type: ignore[no-any-return]

    def nodes(self) -> list[int]:
        """The ids of all brokers that are known."""
        return [broker.nodeId for broker in self._client.cluster.brokers()]

    def leader(self, partition: Partition) -> int | None:
        """The leader as far as known; None where `relocate` has to be awaited first."""
        node = self._client.cluster.leader_for_partition(partition)
        return None if node is None or node < 0 else node

    def has(self, partition: Partition) -> bool:
        """Whether the partition existed when the cluster was last asked about its topic."""
        return partition.partition in (self._client.cluster.partitions_for_topic(partition.topic) or ())

    async def relocate(self, topics: Iterable[str]) -> bool:
        """Ask again who leads the partitions of these topics (and of all others in use); whether anybody answered."""
        # A new set, not a changed one: that is how aiokafka notices that an update under way came too early.
        self._client._topics = self._client._topics | set(topics)
        return await self._client.force_metadata_update()  # type: ignore[no-any-return]

    def untrack(self, topic: str) -> None:
        """Ask about this topic no more: it does not exist."""
        self._client._topics = self._client._topics - {topic}

    async def coordinator(self, kind: int, key: str, patience: Patience) -> int:
        """The node that coordinates a group or a transactional id.

        Raises:
            NotAuthorized, BrokerUnavailable.
        """
        while (node := self._coordinators.get((kind, key))) is None:
            try:
                self._coordinators[kind, key] = await self._client.coordinator_lookup(kind, key)
            except kafka_errors.KafkaError as error:
                code = getattr(error, "errno", faults.COORDINATOR_NOT_AVAILABLE)  # none where nobody answered
                if faults.next_after(code) is not faults.Next.AGAIN:
                    raise faults.raised(code, f"finding the coordinator of {key!r}") from error
                if not await patience.pause():
                    raise BrokerUnavailable(f"no coordinator of {key!r} answers at {self.servers}: {error}.") from error
        return node

    def forget_coordinator(self, kind: int, key: str) -> None:
        """It moved, or does not answer: look it up again before the next request."""
        self._coordinators.pop((kind, key), None)


_REFUSED_CREDENTIALS = (
    kafka_errors.SaslAuthenticationFailed,
    kafka_errors.AuthenticationFailedError,
    kafka_errors.UnsupportedSaslMechanismError,
    kafka_errors.IllegalSaslStateError,
)
