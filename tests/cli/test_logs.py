from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from playhead.cli.logs import configure_logging
from playhead.errors import InvalidSetting
from tests.cli.shell import environment

PROGRAM = """
import logging
import structlog
from playhead.cli.logs import configure_logging
configure_logging()
structlog.contextvars.bind_contextvars(run_id="r-1", event_id="e-1")
structlog.get_logger().info("welcomed", user_id="7", job_id="welcome")
structlog.get_logger().debug("detail")
logging.getLogger("aiokafka").info("chatter")
logging.getLogger("aiokafka").warning("no broker at %s", "x:1")
try:
    1 / 0
except ZeroDivisionError:
    structlog.get_logger().exception("failed")
"""


def lines_of(**env: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment(**env), capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_has_time_level_event_and_ids() -> None:
    first, library, failed = (json.loads(line) for line in lines_of())
    assert list(first)[:3] == ["time", "level", "event"]
    assert first["time"].endswith("Z")
    del first["time"]
    assert first == {
        "level": "info",
        "event": "welcomed",
        "user_id": "7",
        "job_id": "welcome",
        "run_id": "r-1",
        "event_id": "e-1",
    }
    assert (library["level"], library["event"], library["logger"]) == ("warning", "no broker at x:1", "aiokafka")
    assert "ZeroDivisionError" in failed["exception"]


def test_pretty_is_one_line_with_the_ids_last() -> None:
    first = lines_of(PLAYHEAD_LOG_FORMAT="pretty")[0]
    assert "[info     ] welcomed" in first
    assert first.endswith("job_id=welcome user_id=7 run_id=r-1 event_id=e-1")


def test_level_is_a_setting() -> None:
    assert any("detail" in line for line in lines_of(PLAYHEAD_LOG_LEVEL="debug"))
    assert [json.loads(line)["event"] for line in lines_of(PLAYHEAD_LOG_LEVEL="error")] == ["failed"]


@pytest.mark.parametrize("variable", ["PLAYHEAD_LOG_LEVEL", "PLAYHEAD_LOG_FORMAT"])
def test_other_values_are_refused(variable: str) -> None:
    before = logging.getLogger().handlers
    with pytest.raises(InvalidSetting, match=f"{variable}: 'loud' is none of"):
        configure_logging({variable: "loud"})
    assert logging.getLogger().handlers == before
