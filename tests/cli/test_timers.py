"""`playhead scheduler` and `playhead timers`, on a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.installation import ADA, Installation
from tests.cli.sample import job_file
from tests.waiting import block_until

pytestmark = pytest.mark.kafka

CLOCK = """
from playhead import IO, Client, Occurrence, cron_trigger

client = Client("clock")


nine = cron_trigger("0 9 * * *", timezone="Europe/Berlin", jitter=30)


@client.job(id="clock", name="Clock", version="1", trigger=nine)
async def clock(payload: Occurrence, io: IO) -> None:
    pass
"""


@pytest.fixture
def here(kafka_bootstrap: str, tmp_path: Path, write: Callable[[str, str], Path]) -> Installation:
    write(
        "pyproject.toml", '[tool.playhead]\ncatalog = ["playhead_schemas"]\nconsumers = ["ph_one.py", "ph_clock.py"]\n'
    )
    write("ph_one.py", job_file("one"))
    write("ph_clock.py", CLOCK)
    made = Installation(kafka_bootstrap, tmp_path)
    made.run("topics", "create")
    return made


def ended(process: subprocess.Popen[bytes]) -> int:
    """The exit code after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    return process.returncode


def pending(here: Installation) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(here.run("timers", "list", "--json").out)["items"]
    return [row for row in rows if row["schedule"] is None]


def test_event_that_is_sent_later_is_listed_shown_moved_and_canceled(here: Installation) -> None:
    sent = here.run("send", "user.created", ADA, "--delay", "1h", "--json")
    assert sent.code == 0, sent.err
    timer, due_at = json.loads(sent.out)["id"], json.loads(sent.out)["dueAt"]
    (row,) = pending(here)
    assert (row["id"], row["event"], row["key"], row["dueAt"]) == (timer, "user.created", "7", due_at)
    assert timer in here.run("timers", "list").out
    assert json.loads(here.run("timers", "show", timer, "--json").out)["payload"]["email"] == "ada@example.com"
    scheduler = here.start("scheduler")
    try:
        moved = here.run("timers", "move", timer, "--to", "2100-01-01T00:00:00Z", "--json")
        assert moved.code == 0, moved.err
        assert json.loads(moved.out)["dueAt"] == "2100-01-01T00:00:00.000Z"
        moved = here.run("timers", "move", json.loads(moved.out)["id"], "--delay", "2w", "--json")
        assert moved.code == 0, moved.err
        new, due_at = json.loads(moved.out)["id"], json.loads(moved.out)["dueAt"]
        assert [(row["id"], row["dueAt"]) for row in pending(here)] == [(new, due_at)]
        assert here.run("timers", "cancel", timer).code == 2
        assert here.run("timers", "cancel", new).code == 0
        assert pending(here) == []
        assert "There are none." in here.run("timers", "list").err
        assert "PH110" in here.run("timers", "show", new).err
    finally:
        assert ended(scheduler) == 0


def test_list_goes_on_where_its_cursor_says(here: Installation) -> None:
    sent = [json.loads(here.run("send", "user.created", ADA, "--delay", f"{n}h", "--json").out)["id"] for n in (1, 2)]
    first = json.loads(here.run("timers", "list", "--limit", "1", "--json").out)
    second = json.loads(here.run("timers", "list", "--cursor", first["next"], "--json").out)
    assert [[item["id"] for item in page["items"]] for page in (first, second)] == [sent[:1], sent[1:]]
    assert second["next"] is None
    assert f"--cursor {first['next']}" in here.run("timers", "list", "--limit", "1").err
    assert "PH100" in here.run("timers", "list", "--cursor", "?").err


def test_jobs_that_run_by_the_clock_are_listed_with_their_next_time_and_can_be_run_now(here: Installation) -> None:
    running = [here.start("scheduler"), here.start("worker")]

    def schedules() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(here.run("timers", "schedules", "--json").out)["items"]
        return [row for row in rows if row["armed"]]

    try:
        block_until(lambda: bool(schedules()), seconds=40)
        (row,) = schedules()
        assert row["job"] == "clock"
        assert "Europe/Berlin" in row["schedule"]
        assert "or up to 30 s later" in here.run("timers", "schedules").out
        assert here.run("timers", "run", "clock").code == 0
        assert "PH111" in here.run("timers", "run", "watch").err
        assert here.run("timers", "unschedule", "clock").code == 0
        block_until(lambda: not schedules(), seconds=20)
        assert here.run("timers", "unschedule", "clock").code == 2
    finally:
        assert [ended(process) for process in running] == [0, 0]
    assert here.run("timers", "reset").code == 0


def test_delay_that_is_none_is_refused(here: Installation) -> None:
    refused = here.run("send", "user.created", ADA, "--delay", "5x").err
    assert "PH109" in refused
    assert "--delay 24h, or --at" in refused
    assert "--delay 24h, or --to" in here.run("timers", "move", "7", "--to", "tomorrow").err
    assert here.run("send", "user.created", ADA, "--delay", "1h", "--at", "2100-01-01T00:00:00Z").code == 2
    assert "--delay 24h, or --at" in here.run("send", "user.created", ADA, "--at", "2300-01-01T00:00:00Z").err
    assert "--delay 24h, or --to" in here.run("timers", "move", "7", "--to", "2300-01-01T00:00:00Z").err
