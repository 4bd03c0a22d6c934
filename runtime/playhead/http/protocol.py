"""What the server asks of a connection beyond uvicorn's protocol: a head in time, and one length for its body.

connected ──▶ awaiting a head ──head──▶ body, answer ──▶ idle (keep-alive) ──first byte──▶ awaiting a head
                   └──deadline──▶ 408, closed
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_BYTES_MAX = 65_536
"""Of a request; what is longer is answered 400."""
_TIMED_OUT = b"The request's head took too long."


class Config(uvicorn.Config):
    """uvicorn's, with a deadline for heads, in seconds, from the connection or from the head's first byte."""

    def __init__(self, app: Any, *, head_seconds: float, **options: Any) -> None:
        super().__init__(app, http=Protocol, **options)
        self.head_seconds = head_seconds


class _Connection(h11.Connection):
    """Refuses a body of two lengths, which a proxy in front may read differently (RFC 9112, 6.1)."""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if {b"content-length", b"transfer-encoding"} <= names:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        return event


class Protocol(H11Protocol):
    """One connection."""

    config: Config
    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn = _Connection(h11.SERVER, HEAD_BYTES_MAX)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_deadline()
        super().connection_lost(exc)

    @property
    def _has_part_of_a_head(self) -> bool:
        return self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])

    def _watch_head(self) -> None:
        """More bytes of the same head do not move the deadline."""
        if not self._has_part_of_a_head:
            self._cancel_deadline()
        elif self._deadline is None:
            self._start_deadline()

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.config.head_seconds, self._too_late)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._has_part_of_a_head:  # whoever has said nothing is told nothing
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            answer = h11.Response(status_code=408, headers=headers, reason=b"Request Timeout")
            for event in (answer, h11.Data(data=_TIMED_OUT), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
