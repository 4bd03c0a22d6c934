"""A client for programs without an event loop (Django, Flask, scripts): the same calls, blocking.

    with BlockingClient("acme") as client:
        client.send_event("user.created", {"email": "ada@example.com"})

One thread runs an event loop for it; calls from many threads at once are fine.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, TypeVar

from playhead.broker.contract import Broker
from playhead.client import Client
from playhead.config import Settings
from playhead.delay import Delay
from playhead.errors import PlayheadError
from playhead.events import OutgoingEvent, TypedEvent
from playhead.sending import SentEvent

T = TypeVar("T")


class BlockingClient:
    """See `playhead.Client`; `close` (or the end of `with`) waits for what is being sent."""

    def __init__(self, id: str, *, settings: Settings | None = None, broker: Broker | None = None) -> None:
        self._client = Client(id, settings=settings, broker=broker)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"playhead-{id}", daemon=True)
        self._thread.start()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("this client is closed")
        if not self._thread.is_alive():
            work.close()
            raise RuntimeError("this client was made before the process forked: make one in each process")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def start(self) -> None:
        """Connect now, and fail early. Raises what `Client.start` raises."""
        self._call(self._client.start())

    def send_event(
        self,
        event: str | TypedEvent,
        payload: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        key: str | None = None,
        delay: Delay | None = None,
        at: datetime | str | None = None,
    ) -> SentEvent:
        """Send one event and wait until it is in the log. As `Client.send_event`."""
        return self._call(self._client.send_event(event, payload, id=id, key=key, delay=delay, at=at))

    def send_events(
        self, events: Iterable[TypedEvent | OutgoingEvent | tuple[str, Mapping[str, Any]]]
    ) -> list[SentEvent | PlayheadError]:
        """Send many events at once; a result per event. As `Client.send_events`."""
        return self._call(self._client.send_events(events))

    def cancel_event(self, timer_id: str) -> bool:
        """Cancel a timer: True where it never fires. As `Client.cancel_event`."""
        return self._call(self._client.cancel_event(timer_id))

    def reschedule_event(
        self, timer_id: str, *, delay: Delay | None = None, at: datetime | str | None = None
    ) -> tuple[str, datetime]:
        """Move a timer. As `Client.reschedule_event`."""
        return self._call(self._client.reschedule_event(timer_id, delay=delay, at=at))

    def close(self) -> None:
        """Wait for what is being sent, close the connections, end the thread."""
        if self._loop.is_closed():
            return
        self._call(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
