"""A guarded process ends with its parent, and the guard with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from playhead.dev.guard import GuardedProcess
from tests.dev.processes import processes_of_group
from tests.waiting import block_until

FOREVER = [sys.executable, "-c", "import signal; print('ready', flush=True); signal.pause()"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True)\nwhile 1: signal.pause()",
]


@pytest.fixture
def console(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def started(command: list[str], console: Path, grace_seconds: float = 20) -> GuardedProcess:
    process = GuardedProcess(command, console=console, grace_seconds=grace_seconds)
    block_until(lambda: "ready" in console.read_text())
    return process


def test_stop_asks_first_and_leaves_no_process(console: Path) -> None:
    process = started(FOREVER, console)
    # The guard, the command, and the guard's watch, which comes last: the command may say "ready" before.
    block_until(lambda: len(processes_of_group(process.group_id)) == 3)
    assert process.stop() == 128 + signal.SIGTERM
    assert processes_of_group(process.group_id) == []
    assert process.stop() == 128 + signal.SIGTERM


def test_a_command_that_ignores_the_request_is_killed_after_the_grace(console: Path) -> None:
    process = started(STUBBORN, console, grace_seconds=1)
    assert process.stop() == 128 + signal.SIGKILL
    assert processes_of_group(process.group_id) == []


def test_the_guard_ends_when_its_command_ends(console: Path) -> None:
    process = GuardedProcess([sys.executable, "-c", "raise SystemExit(7)"], console=console, grace_seconds=20)
    assert process.wait(10) == 7
    assert processes_of_group(process.group_id) == []
    assert process.stop() == 7


def test_a_command_that_does_not_exist_ends_at_once(console: Path) -> None:
    process = GuardedProcess(["/nonexistent/java"], console=console, grace_seconds=20)
    assert process.wait(10) == 127
    assert "nonexistent" in console.read_text()
    process.stop()


def test_a_signal_to_the_guard_reaches_the_command(console: Path) -> None:
    process = started(FOREVER, console)
    os.kill(process.group_id, signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    process.stop()


def test_a_command_outlives_a_killed_guard_only_until_stop(console: Path) -> None:
    process = started(FOREVER, console)
    os.kill(process.group_id, signal.SIGKILL)
    process.stop()
    block_until(lambda: processes_of_group(process.group_id) == [])


def test_it_is_in_a_session_of_its_own(console: Path) -> None:
    """Ctrl-C goes to the terminal's foreground group: the command is not in it."""
    process = started(FOREVER, console)
    assert os.getsid(process.group_id) != os.getsid(0)
    process.stop()


PARENT = """
import sys
from pathlib import Path
from playhead.dev.guard import GuardedProcess
process = GuardedProcess(sys.argv[2:], console=Path(sys.argv[1]), grace_seconds=1)
print(process.group_id, flush=True)
{then}
sys.stdin.read()
"""


@pytest.mark.parametrize(
    "then",
    [
        pytest.param("", id="alone"),
        # A forked child of the parent lives on; it must not keep the lifeline.
        pytest.param(
            "import os, signal\nif not (child := os.fork()): signal.alarm(60); signal.pause()\nprint(child, flush=1)",
            id="with a forked child",
        ),
    ],
)
@pytest.mark.parametrize("command", [pytest.param(FOREVER, id="obedient"), pytest.param(STUBBORN, id="stubborn")])
def test_it_ends_when_its_parent_is_killed(console: Path, command: list[str], then: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(then=then), str(console), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        group_id = int(parent.stdout.readline())
        child = int(parent.stdout.readline()) if then else 0
        block_until(lambda: "ready" in console.read_text())
        parent.kill()
        parent.wait()
        block_until(lambda: processes_of_group(group_id) == [], seconds=15)
        if child:
            os.kill(child, signal.SIGKILL)
