"""A broker of testcontainers: for a machine that has Docker and no Java."""

from __future__ import annotations

import os
import threading
import time
import warnings
from typing import Any

from playhead.dev import ports
from playhead.dev.docker_broker import DEFAULT_IMAGE
from playhead.dev.properties import HOST, as_image_environment, server_settings
from playhead.errors import NoBroker

_START_SECONDS = 90.0
_POLL_SECONDS = 0.05


class ContainerKafka:
    """A started container; `stop` removes it and its data."""

    def __init__(self, container: Any, port: int) -> None:
        self._container = container
        self.bootstrap_servers = f"{HOST}:{port}"

    @property
    def description(self) -> str:
        """What it is, for people."""
        return f"Apache Kafka at {self.bootstrap_servers} in a container of testcontainers"

    @classmethod
    def started(cls, image: str | None = None) -> ContainerKafka:
        """Start one and wait until Kafka answers. The image: as given, else PLAYHEAD_KAFKA_IMAGE, else apache/kafka.

        Raises:
            NoBroker: testcontainers or Docker is not there, or Kafka did not answer in time.
        """
        image = image or os.environ.get("PLAYHEAD_KAFKA_IMAGE") or DEFAULT_IMAGE
        # The port is the same inside and outside, because Kafka tells it to clients and also calls itself there.
        port = ports.pick_free()
        settings = server_settings(
            log_dir="/var/lib/kafka/data",
            port=port,
            controller_port=ports.pick_free(besides=port),
            bind_host="0.0.0.0",
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of testcontainers' own, at import and start
                from testcontainers.core.container import DockerContainer

                container = DockerContainer(image).with_bind_ports(port, port)
                for name, value in {**as_image_environment(settings), "KAFKA_HEAP_OPTS": "-Xmx512m"}.items():
                    container = container.with_env(name, value)
                container.start()
        except Exception as error:  # docker's, requests' or the import's: all mean "not this way"
            raise NoBroker(f"testcontainers: {error}.") from error
        started = cls(container, port)
        deadline = time.monotonic() + _START_SECONDS
        while not ports.speaks_kafka(HOST, port):
            if time.monotonic() >= deadline:
                said = b"\n".join(container.get_logs()).decode("utf-8", "replace")[-1000:]
                started.stop()
                raise NoBroker(f"Kafka in {image} did not answer within {_START_SECONDS:g} s: {said}")
            threading.Event().wait(_POLL_SECONDS)
        return started

    def stop(self) -> None:
        """Remove the container and its volumes."""
        self._container.stop()
