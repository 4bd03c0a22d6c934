"""Serving: the port is taken first, then the application is served on it until told to stop.

    listen ──▶ sockets bound (or PortInUse) ──▶ serve ──▶ accepting ──stop, cancel──▶ no new connections,
                                                                       requests end within grace_seconds ──▶ closed

The caller owns the process: its signals, its event loop, its logging. Nothing of that is touched here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Generator, Sequence

import uvicorn
from starlette.types import ASGIApp

from playhead.errors import InvalidSetting, PortInUse
from playhead.http.port_owner import listener_of
from playhead.http.protocol import Config

HOST = "127.0.0.1"
PORT = 3002
PORT_MAX = 65_535
_TRIED_PORTS = 100
GRACE_SECONDS = 10
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than what load balancers in front keep theirs, usually 60 s."""
HEAD_SECONDS = 15.0
"""How long a client may take to send a request's head; a body has a deadline of its own (`Limits.body_seconds`)."""
BACKLOG_CONNECTIONS = 2_048


def listen(host: str = HOST, port: int = PORT) -> list[socket.socket]:
    """Bind a port on every address of `host`; `localhost` has two. Nobody is accepted before `serve`.

    Args:
        port: 0 picks a free one; `url_of` tells which.

    Raises:
        PortInUse: another program listens there; the message says who, where the system tells.
        InvalidSetting: the host is not this machine's, or the port may not be used.
    """
    if not 0 <= port <= PORT_MAX:
        raise InvalidSetting(f"port {port} is none.", remedy=f"Give one up to {PORT_MAX}, or 0 for a free one.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise InvalidSetting(
            f"can't listen on {host!r}: {error}.", remedy="Give an address of this machine."
        ) from error
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, kind, protocol, _, address in found:
            try:
                sockets.append(_bound(family, kind, protocol, (str(address[0]), port, *address[2:])))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # such as ::1 where the machine has no IPv6: the other address will do
            else:
                port = sockets[0].getsockname()[1]
    except OSError as error:
        _close(sockets)
        raise _refused(host, port, error) from error
    if not sockets:
        raise InvalidSetting(f"can't listen on {host!r}: {missing}.", remedy="Give an address of this machine.")
    return sockets


def url_of(sockets: Sequence[socket.socket]) -> str:
    """Where clients find the server."""
    host, port = sockets[0].getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    app: ASGIApp,
    host: str = HOST,
    port: int = PORT,
    *,
    sockets: Sequence[socket.socket] | None = None,
    stop: asyncio.Event | None = None,
    started: Callable[[], None] | None = None,
    grace_seconds: int = GRACE_SECONDS,
    head_seconds: float = HEAD_SECONDS,
    access_log: bool = False,
) -> None:
    """Serve until `stop` is set or this task is cancelled; then let requests end, for at most `grace_seconds`.

    Args:
        sockets: from `listen`, where the port was taken earlier; `host` and `port` do not count then.
        started: called once connections are accepted.
        head_seconds: what a client gets to send a request's head, before its connection is closed.
        access_log: a line per request, to the logger `uvicorn.access`.

    Raises:
        PortInUse, InvalidSetting: see `listen`.
        StartFailed: the application's lifespan failed at its start.
    """
    taken = list(listen(host, port) if sockets is None else sockets)
    server = _Server(_config(app, grace_seconds, head_seconds, access_log), started)
    serving = asyncio.create_task(server.serve(taken), name="http")
    stopping = asyncio.create_task((stop or asyncio.Event()).wait(), name="http-stop")
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        server.should_exit = True
        try:
            await serving  # cancelled a second time, this ends without grace
        finally:
            _close(taken)


class StartFailed(RuntimeError):
    """The application's lifespan failed at its start; its own error is in the log of `uvicorn.error`."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and without its way out of the process."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._tell_started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the caller's."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:
            raise StartFailed("the application did not start") from error
        except OSError as error:
            host, port = (sockets or [])[0].getsockname()[:2]
            raise _refused(host, port, error) from error
        if self._tell_started is not None:
            self._tell_started()


def _config(app: ASGIApp, grace_seconds: int, head_seconds: float, access_log: bool) -> Config:
    return Config(
        app,
        head_seconds=head_seconds,
        log_config=None,
        access_log=access_log,
        loop="none",
        ws="none",
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=grace_seconds,
    )


def _bound(
    family: socket.AddressFamily, kind: socket.SocketKind, protocol: int, address: tuple[object, ...]
) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        # Connections of a predecessor that are still closing are not in the way; a listener still is.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _refused(host: str, port: int, error: OSError) -> PortInUse | InvalidSetting:
    if error.errno != errno.EADDRINUSE:
        remedy = "Choose another port, above 1023: --port 3002."
        return InvalidSetting(f"can't listen on {host}:{port}: {error.strerror}.", remedy=remedy)
    who = listener_of(port) or "another program"
    remedy = f"Stop it, or choose another port: --port {_free_port_after(host, port)}."
    return PortInUse(f"{who} listens on {host}:{port}.", remedy=remedy)


def _free_port_after(host: str, port: int) -> int:
    """The next port that is free now, or 0, which picks one: beside a `playhead dev` the next are taken too."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for other in range(port + 1, min(port + _TRIED_PORTS, PORT_MAX) + 1):
        with contextlib.suppress(OSError):
            _bound(family, socket.SOCK_STREAM, 0, (host, other)).close()
            return other
    return 0


def _close(sockets: Sequence[socket.socket]) -> None:
    for taken in sockets:
        taken.close()
