"""History for those who only read it: opened when somebody asks, and never made."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from playhead.errors import NoHistory
from playhead.history.databases import answering, place_of
from playhead.history.reading import Snapshot
from playhead.history.store import HistoryStore


class Reading:
    """Questions to a history that may not be there yet; its methods block, and can be called from any thread.

    Args:
        url: as `HistoryStore`'s.

    Raises:
        InvalidSetting, MissingExtra: the URL can't be used.
    """

    def __init__(self, url: str) -> None:
        self._place = place_of(url)
        self._lock = threading.Lock()
        self._store: HistoryStore | None = None

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Questions that are all answered of the same moment.

        Raises:
            NoHistory: nobody has written one yet.
            DatabaseUnavailable: its database does not answer.
            HistoryMisfit: it is of another format, or no history.
        """
        with answering(self._place.name), self._opened().reading() as db:
            yield Snapshot(db)

    def _opened(self) -> HistoryStore:
        with self._lock:
            if self._store is None:
                if not self._place.current():
                    raise NoHistory(self._place.name, "is not there yet")
                self._store = HistoryStore(self._place)
            return self._store

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
            self._place.close()
