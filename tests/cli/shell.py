"""Running the `playhead` command as a shell does: another process, its exit code and what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import playhead
import playhead_consumers
import playhead_schemas

CHECKOUT = Path(__file__).parents[2]
# The same sources as in this process, installed or not.
ROOTS = os.pathsep.join(str(Path(str(m.__file__)).parents[1]) for m in (playhead, playhead_schemas, playhead_consumers))
PLAYHEAD = [sys.executable, "-P", "-m", "playhead.cli"]
SECONDS_MAX = 60.0
NOBODY = {"PLAYHEAD_BOOTSTRAP_SERVERS": "127.0.0.1:9", "PLAYHEAD_SEND_TIMEOUT_SECONDS": "0.2"}
"""Where no broker answers."""


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without Playhead's variables, and with these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PLAYHEAD_")}
    home = os.environ.get("PLAYHEAD_KAFKA_HOME")
    return {**inherited, "PYTHONPATH": ROOTS, **({"PLAYHEAD_KAFKA_HOME": home} if home else {}), **variables}


def playhead_command(
    *arguments: str, cwd: Path = CHECKOUT, env: Mapping[str, str] | None = None, stdin: str = ""
) -> Done:
    """Run a command to its end."""
    done = subprocess.run(
        [*PLAYHEAD, *arguments],
        cwd=cwd,
        env=environment(**(env or {})),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def start_playhead(
    *arguments: str, cwd: Path = CHECKOUT, env: Mapping[str, str], **how: Any
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [*PLAYHEAD, *arguments],
        cwd=cwd,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        **how,
    )
