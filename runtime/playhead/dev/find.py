"""Which broker to use: the configured one, else a local one, else one in Docker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from playhead.dev.docker_broker import DEFAULT_IMAGE, DockerKafka, find_docker, has_data
from playhead.dev.install import Progress, default_home, install, silent
from playhead.dev.java import find_java
from playhead.dev.local_broker import LocalKafka
from playhead.errors import InvalidSetting, NoBroker

DEFAULT_PORT = 9092
_PORT_MAX = 65_535
_OTHER_WAYS = "start Docker, or set PLAYHEAD_BOOTSTRAP_SERVERS to a Kafka that is running."


class RunningBroker(Protocol):
    """A broker that answers, or that someone else answers for."""

    @property
    def bootstrap_servers(self) -> str:
        """host:port list for clients."""
        ...

    @property
    def description(self) -> str:
        """What it is, for people."""
        ...

    def stop(self) -> None:
        """End what was started for it, if anything, and return when that is gone. Blocks; may be called twice."""
        ...


@dataclass(frozen=True)
class ConfiguredBroker:
    """A broker that Playhead was told about; nothing was started and nothing is stopped."""

    bootstrap_servers: str

    @property
    def description(self) -> str:
        return f"the configured Kafka at {self.bootstrap_servers}"

    def stop(self) -> None:
        """Nothing: it is not ours."""


def find_broker(
    *,
    data_dir: Path,
    bootstrap_servers: str | None = None,
    port: int | None = None,
    progress: Progress = silent,
    env: Mapping[str, str] = os.environ,
) -> RunningBroker:
    """A broker to use, started when none is configured. Blocks, the first time for as long as a download takes.

    Args:
        data_dir: the installation's folder (`.playhead`): jars go to `kafka-<version>/`, the broker to `broker/`.
        bootstrap_servers: use these; None asks PLAYHEAD_BOOTSTRAP_SERVERS.
        port: where a started broker listens, 0 for a free one; None asks PLAYHEAD_KAFKA_PORT, else 9092.
        progress: called with what is being done, bytes done, bytes in total.
        env: also read: PLAYHEAD_KAFKA_HOME, _MIRROR, _SHA512, _IMAGE; JAVA_HOME and PATH.

    Raises:
        NoBroker: none could be found or started; says what was tried and why each failed.
        AlreadyRunning, PortInUse, BrokenDownload, InvalidSetting: as they say. They are no reason to try the next way:
            it would hide the fault, and show other data.
    """
    configured = bootstrap_servers or env.get("PLAYHEAD_BOOTSTRAP_SERVERS")
    if configured:
        return ConfiguredBroker(configured)
    port = port if port is not None else _port_from(env)
    folder = data_dir / "broker"
    tried = ["PLAYHEAD_BOOTSTRAP_SERVERS: not set"]
    local_remedy = ""
    if has_data(folder):
        tried.append(f"local Kafka: not used, because the data of {folder} is in a Docker volume")
    else:
        try:
            java = find_java(env)
            libs = install(default_home(data_dir, env), progress=progress, env=env)
        except (NoBroker, OSError) as error:
            tried.append(f"local Kafka: {_reason(error)}")
            local_remedy = error.remedy if isinstance(error, NoBroker) else ""
        else:
            local = LocalKafka(folder, java, libs, port=port)
            progress("starting Kafka", 0, None)
            local.start()
            return local
    image = env.get("PLAYHEAD_KAFKA_IMAGE") or DEFAULT_IMAGE
    try:
        docker = DockerKafka(folder, find_docker(env), image=image, port=port)
        progress("starting Kafka in Docker", 0, None)
        docker.start(progress=progress)
    except (NoBroker, OSError) as error:
        tried.append(f"Docker: {_reason(error)}")
        remedy = f"{local_remedy} Or {_OTHER_WAYS}" if local_remedy else _OTHER_WAYS[0].upper() + _OTHER_WAYS[1:]
        raise NoBroker("no Kafka broker. Tried:\n  " + "\n  ".join(tried) + "\n", remedy=remedy) from error
    return docker


def _reason(error: NoBroker | OSError) -> str:
    return error.message if isinstance(error, NoBroker) else str(error)


def _port_from(env: Mapping[str, str]) -> int:
    text = env.get("PLAYHEAD_KAFKA_PORT")
    if not text:
        return DEFAULT_PORT
    if not text.isdecimal() or int(text) > _PORT_MAX:
        raise InvalidSetting(
            f"PLAYHEAD_KAFKA_PORT: {text!r} is no port.", remedy="Set it to 1-65535, or 0 for a free one."
        )
    return int(text)
