"""Who listens on a port: for the message of whoever finds it taken."""

from __future__ import annotations

import os
from pathlib import Path

_LISTENING = "0A"
_COMMAND_CHARS_MAX = 80


def listener_of(port: int, proc: Path = Path("/proc")) -> str | None:
    """The process that listens on a TCP port, such as "'python3 app.py' (pid 4711)".

    None where it can't be seen: it is another user's, or the system has no /proc.
    """
    inodes = _listening_inodes(port, proc)
    if not inodes:
        return None
    for process in sorted(proc.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if any(os.readlink(link) in inodes for link in (process / "fd").iterdir()):
                return f"{_command(process)!r} (pid {process.name})"
        except OSError:
            continue  # ended meanwhile, or another user's
    return None


def _listening_inodes(port: int, proc: Path) -> set[str]:
    """Sockets that listen on the port, as the links in /proc/<pid>/fd name them."""
    wanted = f":{port:04X}"
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[1].endswith(wanted) and columns[3] == _LISTENING:
                found.add(f"socket:[{columns[9]}]")
    return found


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().split(b"\0")
    return b" ".join(words).decode(errors="replace").strip()[:_COMMAND_CHARS_MAX]
