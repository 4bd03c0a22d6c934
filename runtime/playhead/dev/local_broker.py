"""A real Apache Kafka on this machine: one KRaft node in a JVM of its own, on the loopback interface.

    stopped ──start──▶ starting ──answers──▶ running ──stop, kill──▶ stopped
                          └──────── ends, or too late ──────────────────▲

Its folder holds everything (see playhead.dev.folder), and besides: `data/` (the log), `broker.log`, and the property
files. Data survives a restart.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from playhead.dev import ports
from playhead.dev.class_archive import ClassArchive
from playhead.dev.folder import BrokerFolder, cause_in, text_from
from playhead.dev.guard import GuardedProcess
from playhead.dev.java import Java
from playhead.dev.lock import FileLock
from playhead.dev.properties import HOST, as_properties, log4j2_properties, server_settings
from playhead.dev.ready import start_and_wait
from playhead.errors import NoBroker, PortInUse

START_SECONDS = 60.0
"""How long a broker may take until it answers. Usual: 1 to 3."""
GRACE_SECONDS = 20.0
"""How long it may take to stop by itself. Usual: 0.3; the first one takes 2, to leave its class archive."""
_FORMAT_SECONDS = 60.0
_PORT_PICKS_MAX = 5
_ORDERLY_CODES = (0, 143)
"""143: a JVM that was asked to end (SIGTERM) and did."""
_JVM = ("-Xmx512m", "-XX:+UseParallelGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")


class _PortTaken(Exception):
    """Another process took a port between the moment it was found free and the broker's bind."""


class LocalKafka:
    """One broker in one folder. `start` and `stop` block; from asyncio, call them in a thread.

    `stop` may be called from another thread while `start` waits: `start` then raises NoBroker.
    """

    def __init__(
        self,
        data_dir: Path,
        java: Java,
        libs: Path,
        *,
        port: int = 0,
        properties: Mapping[str, object] | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            data_dir: made when it is not there. One broker at a time.
            java: what runs it.
            libs: the folder of verified jars (playhead.dev.install).
            port: the port to listen on; 0 picks a free one at the first start and keeps it for later ones.
            properties: broker settings beyond, or instead of, playhead.dev.properties.
        """
        self.folder, self.java, self.libs, self.port = BrokerFolder(data_dir), java, libs.absolute(), port
        self.data_dir = self.folder.path
        self.log_file = self.data_dir / "broker.log"
        self._server_file = self.data_dir / "server.properties"
        self._log4j_file = self.data_dir / "log4j2.properties"
        self._properties = dict(properties or {})
        self._picks_port = port == 0
        self._process: GuardedProcess | None = None
        self._archive = ClassArchive(java, self.libs, self.data_dir)

    @property
    def bootstrap_servers(self) -> str:
        """host:port for clients. Known after the first start when the port was to be picked."""
        return f"{HOST}:{self.port}"

    @property
    def description(self) -> str:
        """For people: what runs, and on what."""
        return f"Apache Kafka at {self.bootstrap_servers} on {self.java}, data in {self.data_dir}"

    @property
    def group_id(self) -> int | None:
        """The process group of the guard and the JVM, while there is one."""
        process = self._process
        return process.group_id if process else None

    def is_running(self) -> bool:
        """Whether the broker's process is there."""
        process = self._process
        return process is not None and process.wait(0) is None

    def start(self, *, timeout_seconds: float = START_SECONDS) -> None:
        """Start the broker and wait until it answers. Nothing, when it runs.

        Raises:
            AlreadyRunning: a broker of another owner runs out of this folder.
            PortInUse: another program listens on the port.
            NoBroker: Kafka ended or did not answer in time; the message has its last error.
        """
        if self.is_running():
            return
        lock = self.folder.lock(grace_seconds=GRACE_SECONDS)
        try:
            self._format_if_new(lock)
            for _ in range(_PORT_PICKS_MAX):
                if self._picks_port:
                    self.port = ports.pick_free()
                else:
                    ports.require_free(self.port)
                try:
                    self._launch(lock, timeout_seconds)
                except _PortTaken:
                    continue
                self._picks_port = False
                return
        finally:
            lock.close()  # the processes started have inherited it
        raise PortInUse("other programs took the ports that were free a moment before.", remedy="Start again.")

    def stop(self) -> None:
        """End the broker in good order, by force after the grace, and return when it is gone. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        code = process.stop()
        # The guard may have been killed before the JVM it guards; the lock tells when both are gone.
        if not self.folder.wait_until_free(GRACE_SECONDS):
            process.kill()
            self.folder.wait_until_free(GRACE_SECONDS)
        if code in _ORDERLY_CODES:
            self._archive.keep()

    def kill(self) -> None:
        """End the broker as a crash would (SIGKILL), and return when it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.stop()
        self.folder.wait_until_free(GRACE_SECONDS)

    def _format_if_new(self, lock: FileLock) -> None:
        if (self.data_dir / "data" / "meta.properties").exists():
            return
        self._write_files(port=1, controller_port=2)  # formatting opens no port
        command = [str(self.java.path), *_JVM, "-cp", f"{self.libs}/*", "kafka.tools.StorageTool", "format"]
        command += ["--ignore-formatted", "-t", self.folder.cluster_id(), "-c", str(self._server_file)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_FORMAT_SECONDS,
                check=False,
                start_new_session=True,
                pass_fds=(lock.descriptor,),
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NoBroker(f"Kafka's data folder {self.data_dir} could not be formatted: {error}.") from error
        if done.returncode != 0:
            cause = cause_in(done.stdout + done.stderr)
            raise NoBroker(
                f"Kafka's data folder {self.data_dir} could not be formatted: {cause}.",
                remedy=f"Delete {self.data_dir} if its data may go, and start again.",
            )

    def _write_files(self, *, port: int, controller_port: int) -> None:
        settings = server_settings(
            log_dir=str(self.data_dir / "data"),
            port=port,
            controller_port=controller_port,
            overrides=self._properties,
        )
        self._server_file.write_text(as_properties(settings), encoding="utf-8")
        self._log4j_file.write_text(log4j2_properties(), encoding="utf-8")

    def _launch(self, lock: FileLock, timeout_seconds: float) -> None:
        """Start the process and wait for its first answer.

        Raises:
            _PortTaken: it could not listen on a port that was free a moment ago.
            NoBroker: as `start`.
        """
        self._write_files(port=self.port, controller_port=ports.pick_free(besides=self.port))
        self.folder.say_who(lock, self.bootstrap_servers)
        log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        command = [
            str(self.java.path),
            *_JVM,
            *self._archive.java_options(),
            f"-Dplayhead.log={self.log_file}",
            f"-Dlog4j2.configurationFile={self._log4j_file}",
            *("-cp", f"{self.libs}/*", "kafka.Kafka", str(self._server_file)),
        ]
        fault = start_and_wait(
            command,
            self.folder,
            lock,
            self.port,
            self._keep,
            timeout_seconds=timeout_seconds,
            grace_seconds=GRACE_SECONDS,
        )
        if fault is not None:
            raise self._start_failure(f"Kafka {fault}", log_start)

    def _keep(self, process: GuardedProcess | None) -> None:
        self._process = process

    def _start_failure(self, what: str, log_start: int) -> Exception:
        said = text_from(self.log_file, log_start) + text_from(self.folder.console)
        if "Address already in use" in said:
            return _PortTaken()
        return NoBroker(
            f"{what}: {cause_in(said) or 'it said nothing'}.", remedy=f"Read {self.log_file} and {self.folder.console}."
        )
