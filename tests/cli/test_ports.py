"""Where the processes of `playhead dev` show their health and metrics."""

from __future__ import annotations

import socket

from playhead.cli.dev import _commands
from playhead.dev.ports import is_free, pick_free


def ports(http_port: int) -> dict[str, int]:
    commands = _commands((), 1.0, http_port, worker=True)
    return {name: int(command[command.index("--port") + 1]) for name, command in commands.items()}


def free_before(count: int) -> int:
    """A port with as many free ones after it."""
    while True:
        port = pick_free()
        if all(is_free(port + distance) for distance in range(1, count + 1)):
            return port


def test_they_follow_the_one_of_http() -> None:
    port = free_before(3)
    assert ports(port) == {"scheduler": port + 1, "worker": port + 2, "history": port + 3}


def test_one_that_is_taken_is_left_to_its_owner() -> None:
    port = free_before(3)
    with socket.create_server(("127.0.0.1", port + 1)):
        assert ports(port) == {"scheduler": 0, "worker": port + 2, "history": port + 3}


def test_free_and_odd_ones_have_no_followers() -> None:
    assert ports(0) == {"scheduler": 0, "worker": 0, "history": 0}
    assert ports(80) == {"scheduler": 0, "worker": 0, "history": 0}
    assert ports(65_535) == {"scheduler": 0, "worker": 0, "history": 0}
