"""A worker as a process: it can die in the middle of anything, without a word to its group."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

from playhead.broker.memory import MemoryBroker
from playhead.clock import Clock
from playhead.config import Settings
from playhead.engine import Worker
from playhead.group.member import Phase
from playhead.io import IO
from playhead.job import Job


class Mortal:
    """Stands for a broker or a membership; once its process is dead, no call of it is ever made or answered."""

    def __init__(self, inner: Any, process: Process) -> None:
        self._inner = inner
        self._process = process
        self.on_blocked = None

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._until_death(found) if inspect.iscoroutinefunction(found) else found

    def _until_death(self, call: Any) -> Any:
        async def made(*arguments: Any, **named: Any) -> Any:
            if self._process.dead:
                await asyncio.Event().wait()
            answer = await call(*arguments, **named)
            if self._process.dead:
                await asyncio.Event().wait()
            if call.__name__ == "join":
                self._process.memberships.append(answer)
                return Mortal(answer, self._process)
            return answer

        return made


class Process:
    """One worker, from its start to its end or its death."""

    def __init__(
        self, jobs: Sequence[Job], broker: MemoryBroker, clock: Clock, seed: int, *, grace_seconds: float = 1.0
    ) -> None:
        self.dead = False
        self.memberships: list[Any] = []
        self._broker = broker
        link: Any = Mortal(broker, self)
        self.worker = Worker(jobs, link, settings=Settings(), clock=clock, grace_seconds=grace_seconds, seed=seed)
        self._running = asyncio.create_task(self.worker.run())

    def kill(self) -> None:
        """Cancel whatever it does; its group learns of it by its silence alone."""
        self.dead = True
        for membership in self.memberships:
            self._broker.freeze(membership)
        self._cancel_all()

    def _cancel_all(self) -> None:
        mine: set[int] = {id(self.worker)}
        for consumer in self.worker.consumers:
            parts = (
                consumer,
                consumer.member,
                getattr(consumer.member, "committer", None),
                getattr(consumer, "_execution", None),
            )
            mine |= {id(part) for part in parts if part is not None}
        for task in asyncio.all_tasks():
            frame = getattr(task.get_coro(), "cr_frame", None)
            if frame is not None and id(frame.f_locals.get("self")) in mine:
                task.cancel()

    def is_between_generations(self, job_id: str) -> bool:
        """Whether the group of this job is moving on, and nothing can be committed."""
        (consumer,) = [consumer for consumer in self.worker.consumers if consumer.job.id == job_id]
        return consumer.phase is Phase.FROZEN or consumer.member.committer.epoch is None

    def stop(self) -> None:
        """Ask it to end gracefully."""
        self.worker.stop()

    @property
    def ended(self) -> bool:
        return self._running.done()

    def check(self) -> None:
        """Raise what it gave up with, if it did."""
        if self._running.done() and not self._running.cancelled() and not self.dead:
            self._running.result()

    async def bury(self) -> None:
        """End what is left of it."""
        while not self._running.done():
            self._cancel_all()
            await asyncio.sleep(0)
        await asyncio.gather(self._running, return_exceptions=True)


def process_of(io: IO) -> Process:
    """The process that a function runs in."""
    broker: Any = io._attempt._performer.broker  # type: ignore[attr-defined]
    process: Process = broker._process
    return process
