"""What `playhead dev` shows while the broker comes up: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.progress import BarColumn, DownloadColumn, Progress, SpinnerColumn, TaskID, TextColumn, TransferSpeedColumn

from playhead.cli.output import say, words


class StartProgress:
    """Use as a context manager; hand the object itself to `find_broker` as its `progress`."""

    def __init__(self) -> None:
        self._on_terminal = words().is_terminal
        self._last: tuple[str, bool] = ("", False)
        self._bars: Progress | None = None
        self._task: TaskID | None = None

    def __call__(self, message: str, done_bytes: int, total_bytes: int | None) -> None:
        """Show what is being done, and how far it is."""
        now = message, bool(total_bytes) and self._on_terminal
        is_new, self._last = now != self._last, now
        if not self._on_terminal:
            if is_new:
                say(message)
            return
        if is_new:
            self._end()
            columns = [SpinnerColumn(), TextColumn("{task.description}")]
            if total_bytes:
                columns += [BarColumn(), DownloadColumn(), TransferSpeedColumn()]
            self._bars = Progress(*columns, console=words(), transient=True)
            self._task = self._bars.add_task(message, total=total_bytes)
            self._bars.start()
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done_bytes)

    def _end(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def __enter__(self) -> StartProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
