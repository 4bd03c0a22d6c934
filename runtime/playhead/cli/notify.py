"""Telling whoever started this process how it is: systemd's sd_notify protocol.

The starter names a unix datagram socket in $NOTIFY_SOCKET; the process sends lines of NAME=value to it. systemd
(Type=notify) and `playhead dev` listen. https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

NOTIFY_SOCKET = "NOTIFY_SOCKET"


class Notifier:
    """Sends to $NOTIFY_SOCKET; without one, or without a listener, it does nothing."""

    def __init__(self, env: Mapping[str, str] = os.environ) -> None:
        address = env.get(NOTIFY_SOCKET, "")
        # A leading @ stands for a name in Linux's abstract namespace, which begins with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def send(self, **lines: str) -> None:
        """Send one datagram with a line per argument: `send(READY="1", STATUS="8 jobs")`."""
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(f"{k}={v}" for k, v in lines.items()).encode(), self._address)
        except OSError:
            return  # the listener is gone or slow; how this process does its work does not depend on it

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
