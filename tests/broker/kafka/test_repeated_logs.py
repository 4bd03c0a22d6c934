"""A broker that is away fills no log."""

from __future__ import annotations

import logging
import socket

import pytest
from aiokafka.client import AIOKafkaClient  # noqa: TID251 -- what is filtered is its own log
from aiokafka.errors import KafkaConnectionError  # noqa: TID251 -- as above

import playhead.broker.kafka  # noqa: F401 -- its import is what installs the filter
from playhead.broker.kafka.repeated_logs import PAUSE_SECONDS, OnceInAWhile


def line(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("aiokafka.client", logging.ERROR, "client.py", 1, text, args, None)


class TestOnceInAWhile:
    def test_equal_lines_come_once_and_are_counted_later(self) -> None:
        now = 0.0
        once = OnceInAWhile(lambda: now)
        passed = [once.filter(line("Unable connect to node with id %s: %s", 1, "refused")) for _ in range(100)]
        assert passed == [True] + [False] * 99

        now = PAUSE_SECONDS
        later = line("Unable connect to node with id %s: %s", 1, "refused")
        assert once.filter(later)
        assert later.getMessage() == "Unable connect to node with id 1: refused (99 times more before)"

    def test_other_lines_pass(self) -> None:
        once = OnceInAWhile(lambda: 0.0)
        assert all(once.filter(line("Unable connect to node with id %s", node)) for node in range(1_000))


class TestAiokafka:
    async def test_tells_of_equal_tries_once(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            for _ in range(5):
                client = AIOKafkaClient(bootstrap_servers=f"127.0.0.1:{nobody.getsockname()[1]}")
                with pytest.raises(KafkaConnectionError):
                    await client.bootstrap()
        (told,) = caplog.records
        assert told.getMessage().startswith("Unable connect to")

    @pytest.mark.parametrize("module", ["consumer.fetcher", "consumer.group_coordinator"])
    def test_consumers_too(self, module: str, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(5):
            logging.getLogger(f"aiokafka.{module}").error("%s: node 4711 is not ready", module)
        assert len(caplog.records) == 1
