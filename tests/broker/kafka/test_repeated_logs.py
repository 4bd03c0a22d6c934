"""A broker that is away fills no log."""

from __future__ import annotations

import logging

import pytest

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

    def test_it_is_on_the_logger_that_tells_of_each_try(self, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(50):
            logging.getLogger("aiokafka.client").error("Unable connect to node with id 4711: refused")
        assert len(caplog.records) == 1
