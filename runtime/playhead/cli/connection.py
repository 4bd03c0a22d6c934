"""The broker, for the length of a command."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from playhead.broker.contract import Broker
from playhead.cli.output import say
from playhead.cli.project import Project
from playhead.config import ENV_PREFIX, Settings
from playhead.errors import BrokerUnavailable

T = TypeVar("T")

DEV_LOCK = "dev.lock"
"""In the data folder: held by a running `playhead dev`, with what it says of itself."""


def settings_of(
    project: Project, env: Mapping[str, str] = os.environ, *, tell: Callable[[str], object] = say
) -> Settings:
    """The settings of the environment; where they name no broker, that of a `playhead dev` running in this project.

    Args:
        tell: is told, as a sentence, where there is none either and the default is taken.

    Raises:
        InvalidSetting: a variable can't be used.
    """
    if env.get(f"{ENV_PREFIX}BOOTSTRAP_SERVERS"):
        return Settings.from_env(env)
    servers = _running_dev(project).get("bootstrap_servers")
    settings = Settings.from_env(env, bootstrap_servers=servers)
    if servers is None:
        taken = settings.bootstrap_servers
        tell(f"No broker is configured and no `playhead dev` runs here: taking the default, {taken}.")
    return settings


def _running_dev(project: Project) -> dict[str, object]:
    from playhead.dev.lock import FileLock, LockedElsewhere

    path = project.data_dir / DEV_LOCK
    if not path.exists():
        return {}
    try:
        FileLock.take(path).close()
    except LockedElsewhere as held:
        return held.facts
    return {}


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Broker]:
    """A broker that is started and, at the end, stopped.

    Raises:
        BrokerUnavailable, BrokerTooOld.
    """
    from playhead.broker.kafka import KafkaBroker

    broker = KafkaBroker(settings)
    try:
        await _start(broker)
        yield broker
    finally:
        await broker.stop()


async def _start(broker: Broker) -> None:
    try:
        await broker.start()
    except BrokerUnavailable as error:
        error.remedy = "Start one with `playhead dev`, or name yours in PLAYHEAD_BOOTSTRAP_SERVERS."
        raise


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The event loop for commands that run for long: uvloop's where it is installed, else None for asyncio's."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def run_fast(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on the fastest loop there is."""
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(work)
