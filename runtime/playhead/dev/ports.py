"""Ports on the loopback interface: whether one is free, picking one, and whether Kafka answers there."""

from __future__ import annotations

import errno
import random
import socket
import struct

from playhead.dev.properties import HOST
from playhead.errors import PortInUse

_FIRST_PICKED, _LAST_PICKED = 20_000, 32_000
"""Below every system's ephemeral range: a client that reconnects to an ephemeral port while nobody listens there may
be given that very port as its own, connect to itself and keep the broker from coming back."""
_PICKS_MAX = 200

_API_VERSIONS_KEY = 18
_CORRELATION_ID = 20_260
_ANSWER_HEAD_BYTES = 10
_ANSWER_SECONDS = 2.0


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` of the loopback interface now.

    Raises:
        OSError: it may not, for another reason (a privileged port, say).
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Kafka does: connections of a predecessor that are still closing are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def pick_free(*, besides: int = 0) -> int:
    """A port that is free now and is not `besides`. Another process may still take it first: be ready to pick again.

    Raises:
        OSError: none was found.
    """
    for _ in range(_PICKS_MAX):
        # Not security: any spread will do, so that processes that start together rarely meet.
        port = random.randint(_FIRST_PICKED, _LAST_PICKED)
        if port != besides and is_free(port):
            return port
    raise OSError(errno.EADDRINUSE, f"no free port found between {_FIRST_PICKED} and {_LAST_PICKED}")


def require_free(port: int) -> None:
    """Nothing, when `port` is free.

    Raises:
        PortInUse: another program listens on it, or this one may not.
    """
    try:
        free = is_free(port)
    except OSError as error:
        raise PortInUse(f"port {port}: {error.strerror}.", remedy="Set PLAYHEAD_KAFKA_PORT to another port.") from error
    if free:
        return
    hint = ""
    if speaks_kafka(HOST, port):
        hint = f" It is a Kafka broker: to use it, set PLAYHEAD_BOOTSTRAP_SERVERS={HOST}:{port}."
    raise PortInUse(
        f"another program listens on {HOST}:{port}.",
        remedy=f"Stop it, or set PLAYHEAD_KAFKA_PORT to a free port.{hint}",
    )


def speaks_kafka(host: str, port: int) -> bool:
    """Whether something at this address answers a Kafka ApiVersions request (version 0) now.

    A Kafka broker accepts connections early and answers once it is unfenced, so this is the moment from which topics
    can be created.
    """
    request = struct.pack(">hhih", _API_VERSIONS_KEY, 0, _CORRELATION_ID, -1)
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                head = answer.read(_ANSWER_HEAD_BYTES)
    except OSError:
        return False
    if len(head) < _ANSWER_HEAD_BYTES:
        return False
    _size, correlation_id, error_code = struct.unpack(">iih", head)
    return bool(correlation_id == _CORRELATION_ID and error_code == 0)
