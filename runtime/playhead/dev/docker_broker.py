"""The same single Kafka node in a container, for machines with Docker and without Java.

The `docker` command runs in the foreground under the guard of playhead.dev.guard, and hands SIGTERM on to the
container. Data lives in a named volume (its name is in `docker-volume`): the image's user could not write to a folder
of this machine's user. A container that outlived its `docker` command is removed at the next start.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from playhead.dev import ports
from playhead.dev.artifacts import KAFKA_VERSION
from playhead.dev.folder import BrokerFolder, cause_in, text_from
from playhead.dev.guard import GuardedProcess
from playhead.dev.install import Progress, silent
from playhead.dev.lock import FileLock
from playhead.dev.properties import HOST, as_image_environment, server_settings
from playhead.dev.ready import start_and_wait
from playhead.errors import NoBroker

DEFAULT_IMAGE = f"apache/kafka:{KAFKA_VERSION}"
START_SECONDS = 90.0
"""How long the container may take until Kafka answers, once the image is there."""
GRACE_SECONDS = 20.0
_ASK_SECONDS = 15.0
_PULL_SECONDS = 1800.0
_DATA_DIR = "/var/lib/kafka/data"
"""The image's own folder for it, which its user may write to; a new volume takes on its owner."""
_VOLUME_FILE = "docker-volume"
REMEDY = "Start Docker (`docker version` must show a server)."


def find_docker(env: Mapping[str, str] = os.environ) -> Path:
    """The `docker` command, with an engine that answers.

    Raises:
        NoBroker: there is none, or no engine answers.
    """
    docker = shutil.which("docker", path=env.get("PATH", ""))
    if docker is None:
        raise NoBroker("no docker on PATH.", remedy=REMEDY)
    try:
        asked = _run([docker, "version", "--format", "{{.Server.Version}}"], _ASK_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoBroker(f"{docker} does not answer: {error}.", remedy=REMEDY) from error
    if asked.returncode != 0:
        last = asked.stderr.strip().splitlines()[-1:] or ["no message"]
        raise NoBroker(f"no Docker engine answers: {last[0]}", remedy=REMEDY)
    return Path(docker)


def has_data(data_dir: Path) -> bool:
    """Whether this folder's broker has run in Docker, so that its data is in a volume."""
    return (data_dir / _VOLUME_FILE).exists()


class DockerKafka:
    """One broker in one container. `start` and `stop` block; from asyncio, call them in a thread."""

    def __init__(
        self,
        data_dir: Path,
        docker: Path,
        *,
        image: str = DEFAULT_IMAGE,
        port: int = 0,
        properties: Mapping[str, object] | None = None,
    ) -> None:
        """Nothing is started yet. `image` takes its settings as the apache/kafka image does (KAFKA_* variables)."""
        self.folder, self.docker, self.image, self.port = BrokerFolder(data_dir), docker, image, port
        self.name = "playhead-kafka-" + hashlib.sha256(str(self.folder.path).encode()).hexdigest()[:12]
        self._properties = dict(properties or {})
        self._process: GuardedProcess | None = None

    @property
    def bootstrap_servers(self) -> str:
        """host:port for clients. Known after the first start when the port was to be picked."""
        return f"{HOST}:{self.port}"

    @property
    def description(self) -> str:
        """For people: what runs, and where its data is."""
        return f"Apache Kafka at {self.bootstrap_servers} in Docker ({self.image}), data in the volume {self.name}"

    def start(self, *, timeout_seconds: float = START_SECONDS, progress: Progress = silent) -> None:
        """Pull the image when it is not there, start the container, and wait until Kafka answers.

        Raises:
            AlreadyRunning: a broker runs out of this folder.
            PortInUse: another program listens on the port.
            NoBroker: the image can't be pulled, or Kafka ended or did not answer in time.
        """
        if self._process is not None and self._process.wait(0) is None:
            return
        lock = self.folder.lock(grace_seconds=GRACE_SECONDS)
        try:
            # We hold the folder, so this can only be a container that outlived its `docker` command.
            self._remove_container()
            self._pull(progress)
            if self.port == 0:
                self.port = ports.pick_free()
            ports.require_free(self.port)
            self._launch(lock, timeout_seconds)
        finally:
            lock.close()

    def stop(self) -> None:
        """End the container in good order, by force after the grace, and return when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.stop()
        self._remove_container()
        self.folder.wait_until_free(GRACE_SECONDS)

    def _pull(self, progress: Progress) -> None:
        if _run([str(self.docker), "image", "inspect", self.image], _ASK_SECONDS).returncode == 0:
            return
        progress(f"pulling {self.image}", 0, None)
        try:
            pulled = _run([str(self.docker), "pull", "-q", self.image], _PULL_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NoBroker(f"{self.image} could not be pulled: {error}.") from error
        if pulled.returncode != 0:
            last = pulled.stderr.strip().splitlines()[-1:] or ["no message"]
            raise NoBroker(
                f"{self.image} could not be pulled: {last[0]}",
                remedy="Set PLAYHEAD_KAFKA_IMAGE to an image that this machine can pull or has.",
            )

    def run_command(self) -> list[str]:
        """The `docker run` that is the broker. The port is the same inside and outside: Kafka also calls itself."""
        settings = server_settings(
            log_dir=_DATA_DIR,
            port=self.port,
            controller_port=ports.pick_free(besides=self.port),
            bind_host="0.0.0.0",
            overrides=self._properties,
        )
        variables = {
            **as_image_environment(settings),
            "CLUSTER_ID": self.folder.cluster_id(),
            "KAFKA_HEAP_OPTS": "-Xmx512m",
            # What it prints goes to a file that nothing rolls over.
            "KAFKA_LOG4J_ROOT_LOGLEVEL": "WARN",
        }
        command = [str(self.docker), "run", "--rm", "--name", self.name, "--pull", "never"]
        command += ["--publish", f"{HOST}:{self.port}:{self.port}", "--volume", f"{self.name}:{_DATA_DIR}"]
        for name, value in variables.items():
            command += ["--env", f"{name}={value}"]
        return [*command, self.image]

    def _launch(self, lock: FileLock, timeout_seconds: float) -> None:
        self.folder.say_who(lock, self.bootstrap_servers)
        (self.folder.path / _VOLUME_FILE).write_text(self.name + "\n", encoding="utf-8")
        fault: str | None = "was interrupted"
        try:
            fault = start_and_wait(
                self.run_command(),
                self.folder,
                lock,
                self.port,
                self._keep,
                timeout_seconds=timeout_seconds,
                grace_seconds=GRACE_SECONDS,
            )
        finally:
            if fault is not None:
                self._remove_container()
        if fault is not None:
            cause = cause_in(text_from(self.folder.console)) or "it said nothing"
            raise NoBroker(f"Kafka in Docker {fault}: {cause}.", remedy=f"Read {self.folder.console}.")

    def _keep(self, process: GuardedProcess | None) -> None:
        self._process = process

    def _remove_container(self) -> None:
        _run([str(self.docker), "rm", "--force", "--volumes", self.name], GRACE_SECONDS)


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
    )
