"""Heartbeats while the event loop is blocked.

A job that blocks the loop (a C call, a long computation, `time.sleep`) also stops the heartbeats of its group, and
after the session timeout the group throws the member out. So a thread looks whether the loop still ticks; while it does
not, it sends the heartbeats of every current epoch itself, over a connection of its own, and tells the watchdog.

    loop     ─tick─tick─tick─│··········· blocked ···········│tick─tick─
    thread    .   .   .   .   .   ! ♥     ♥     ♥     ♥   ♥   .   .
                                  └ after 1.5 heartbeat intervals without a tick; once an interval

It can't help where C code keeps the interpreter's lock.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import KafkaError
from aiokafka.protocol.group import HeartbeatRequest

from playhead.broker.contract import Epoch
from playhead.broker.kafka import faults

logger = logging.getLogger(__name__)

BLOCKED_AFTER_SECONDS = 1.0
"""From when on a loop without a tick is called blocked, and told to the watchdog about once as long."""
_CHECKS_PER_INTERVAL = 8
_BEAT_LIMIT_SECONDS = 5.0


class Beating(Protocol):
    """A membership as the pulse sees it."""

    group: str
    last_heartbeat: float

    @property
    def epoch(self) -> Epoch | None: ...

    def beat(self, sent: float) -> None: ...


class Pulse:
    """The thread and the loop's tick. Started with the first membership."""

    def __init__(
        self,
        options: dict[str, Any],
        heartbeat_seconds: float,
        on_blocked: Callable[[], Callable[[float], None] | None],
    ) -> None:
        self._options = options
        self._interval = heartbeat_seconds
        self._on_blocked = on_blocked
        self._members: list[Beating] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._last_tick = time.monotonic()
        self._client: Any = None
        self._coordinators: dict[str, int] = {}

    def watch(self, member: Beating) -> None:
        """Keep this member in its group while the loop is blocked."""
        with self._lock:
            self._members.append(member)
        if self._thread is None:
            self._tick(asyncio.get_running_loop())
            self._thread = threading.Thread(target=self._run, name="playhead-pulse", daemon=True)
            self._thread.start()

    def forget(self, member: Beating) -> None:
        """This member leaves."""
        with self._lock:
            if member in self._members:
                self._members.remove(member)

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._tick_handle is not None:
            self._tick_handle.cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._last_tick = time.monotonic()
        self._tick_handle = loop.call_later(self._interval / _CHECKS_PER_INTERVAL, self._tick, loop)

    # In the thread

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            told = sent = 0.0
            while not self._stopping.wait(self._interval / _CHECKS_PER_INTERVAL):
                now = time.monotonic()
                gap = now - self._last_tick
                if gap >= BLOCKED_AFTER_SECONDS and now - told >= BLOCKED_AFTER_SECONDS:
                    told = now
                    self._tell(gap)
                if gap >= 1.5 * self._interval and now - sent >= self._interval:
                    sent = now
                    runner.run(self._beat_all())
            if self._client is not None:
                runner.run(self._disconnect())

    def _tell(self, seconds: float) -> None:
        watchdog = self._on_blocked()
        if watchdog is None:
            return
        try:
            watchdog(seconds)
        except Exception:  # a watchdog's mistake must not stop the heartbeats
            logger.exception("on_blocked failed")

    async def _beat_all(self) -> None:
        with self._lock:
            members = list(self._members)
        try:
            async with asyncio.timeout(_BEAT_LIMIT_SECONDS):
                await self._connect()
                await asyncio.gather(*(self._beat(member) for member in members))
        except (KafkaError, OSError, TimeoutError) as error:
            logger.warning("backup heartbeat failed: %s", error or type(error).__name__)
            await self._disconnect()

    async def _connect(self) -> None:
        if self._client is None:
            client: Any = AIOKafkaClient(**self._options)
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            client._sync_task.cancel()  # this loop runs only now and then: no metadata in the background
            self._client = client

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        self._coordinators.clear()
        if client is not None:
            await client.close()

    async def _beat(self, member: Beating) -> None:
        epoch = member.epoch
        if epoch is None:
            return
        node = self._coordinators.get(member.group)
        if node is None:
            node = await self._client.coordinator_lookup(CoordinationType.GROUP, member.group)
            self._coordinators[member.group] = node
        sent = time.monotonic()
        request = HeartbeatRequest(member.group, epoch.generation, epoch.member_id)
        answer = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
        if answer.error_code in (faults.NONE, faults.REBALANCE_IN_PROGRESS):
            member.beat(sent)
        elif faults.moved(answer.error_code):
            del self._coordinators[member.group]
