"""A child process that cannot outlive its parent, however the parent ends.

    this process ──writes to──▶ pipe ──read by──▶ sh (guard.sh) ──parent of──▶ the command
                                                    └─ end of file: SIGTERM, grace, SIGKILL

The pipe's write end is this process's alone: not inherited over exec, closed in forked children. All run in a session
of their own, so that Ctrl-C in the terminal reaches only this process, which stops its own clients first.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

KILL_MARGIN_SECONDS = 5.0
"""What the guard may take beyond the grace before it is killed itself."""

_SCRIPT = Path(__file__).with_name("guard.sh")
_lifelines: set[int] = set()


def _close_lifelines_in_child() -> None:
    # A forked worker (multiprocessing) would otherwise keep the pipe open after this process has died.
    for descriptor in _lifelines:
        os.close(descriptor)
    _lifelines.clear()


os.register_at_fork(after_in_child=_close_lifelines_in_child)


class GuardedProcess:
    """One guarded command. `stop` may be called from any thread, and more than once."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        console: Path,
        grace_seconds: float,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Start `command` with no input; what it prints goes to the file `console`, which is overwritten.

        `grace_seconds` is rounded up to whole seconds: it is what the command gets between SIGTERM and SIGKILL.

        Raises:
            OSError: `sh` could not be started, or `console` not be written.
        """
        self.grace_seconds = grace_seconds
        read_end, self._lifeline = os.pipe()
        _lifelines.add(self._lifeline)
        try:
            with console.open("wb") as output:
                self._shell = subprocess.Popen(
                    ["/bin/sh", str(_SCRIPT), str(math.ceil(grace_seconds)), *command],
                    stdin=read_end,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=pass_fds,
                    env=env,
                )
        except BaseException:
            self._cut_lifeline()
            raise
        finally:
            os.close(read_end)

    @property
    def group_id(self) -> int:
        """The process group (and session) of the guard and the command: the guard's pid."""
        return self._shell.pid

    def wait(self, seconds: float) -> int | None:
        """Wait up to `seconds` for the command's end; its exit code, or None while it runs."""
        try:
            return self._shell.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> int:
        """End the command (SIGTERM, after the grace SIGKILL) and wait until it is gone; its exit code."""
        self._cut_lifeline()
        code = self.wait(self.grace_seconds + KILL_MARGIN_SECONDS)
        if code is None:
            self.kill()
            code = self._shell.wait()
        return code

    def kill(self) -> None:
        """SIGKILL for the guard and the command."""
        self._cut_lifeline()
        try:
            os.killpg(self._shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def _cut_lifeline(self) -> None:
        try:
            _lifelines.remove(self._lifeline)  # one step, so that of two threads only one closes it
        except KeyError:
            return
        os.close(self._lifeline)
