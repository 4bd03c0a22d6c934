from __future__ import annotations

import socket
from pathlib import Path

from playhead.cli.notify import Notifier


def listener(address: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.settimeout(5)
    listening.bind(address)
    return listening


def test_lines_arrive_as_one_datagram(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with listener(address) as listening:
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.send(READY="1", STATUS="8 jobs running")
        assert listening.recv(1000) == b"READY=1\nSTATUS=8 jobs running"
        notifier.close()


def test_at_sign_is_the_abstract_namespace() -> None:
    with listener("\0playhead-test-notify") as listening:
        notifier = Notifier({"NOTIFY_SOCKET": "@playhead-test-notify"})
        notifier.send(STOPPING="1")
        assert listening.recv(1000) == b"STOPPING=1"
        notifier.close()


def test_without_listener_nothing_happens(tmp_path: Path) -> None:
    for env in ({}, {"NOTIFY_SOCKET": str(tmp_path / "nobody")}):
        notifier = Notifier(env)
        notifier.send(READY="1")
        notifier.close()
