"""What the operating system says of processes."""

from __future__ import annotations

import subprocess


def processes_of_group(group_id: int) -> list[int]:
    """The ids of the live processes in a process group; zombies, which only wait to be reaped, do not count."""
    table = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in table.splitlines())
    return [int(pid) for pid, group, state in rows if int(group) == group_id and not state.startswith("Z")]
