"""What the answers to a consumer's fetches tell that aiokafka drops: leader epochs, and most errors.

fetcher ──▶ Fetches ──▶ client ──▶ broker
              │ each batch's header holds the epoch of the leader that took it: the youngest is kept
              └ an error that the fetcher would only log, and ask again at once, for ever:
                  another node leads, or the broker is not ready ──▶ a line in the log, a pause, a look-up
                  anything else ──▶ `failure`, which ends the member's fetches
"""

from __future__ import annotations

import asyncio
import logging
from struct import Struct
from typing import Any

from aiokafka.protocol.fetch import FetchRequest

from playhead.broker.contract import Partition
from playhead.broker.kafka import faults
from playhead.broker.kafka.faults import Next
from playhead.errors import PlayheadError

logger = logging.getLogger(__name__)

_HANDLED = frozenset(
    {faults.NONE, faults.OFFSET_OUT_OF_RANGE, faults.UNKNOWN_TOPIC_OR_PARTITION, 6, faults.TOPIC_AUTHORIZATION_FAILED}
)
"""What aiokafka's fetcher acts on by itself; 6 is NOT_LEADER_OR_FOLLOWER."""
_PAUSE_SECONDS = 0.1

_LENGTH_AND_EPOCH, _LENGTH_AT, _LENGTH_END, _EPOCH_END = Struct(">ii"), 8, 12, 16
"""Where in a batch's header its length and its leader epoch are (KIP-98)."""


def youngest_leader_epoch(data: bytes) -> int:
    """Of these record batches, the last of which may be cut off; -1 where there is none. Epochs never fall in a log."""
    at, epoch = 0, -1
    while at + _EPOCH_END <= len(data):
        length, epoch = _LENGTH_AND_EPOCH.unpack_from(data, at + _LENGTH_AT)
        if length <= 0:
            break
        at += _LENGTH_END + length
    return epoch


class Fetches:
    """Stands between aiokafka's fetcher and its client, and is the client for everything but the answers to fetches.

    Attributes:
        leader_epochs: the youngest that is known of each partition, -1 if none is; a takeover sets it anew.
        failure: what the member's next fetch is to raise.
    """

    def __init__(self, client: Any, group: str) -> None:
        self._client = client
        self._group = group
        self.leader_epochs: dict[Partition, int] = {}
        self.failure: PlayheadError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(self, node: int, request: Any, **options: Any) -> Any:
        answer = await self._client.send(node, request, **options)
        if isinstance(request, FetchRequest):
            await self._look_at(answer, request)
        return answer

    async def _look_at(self, answer: Any, request: Any) -> None:
        wait = False
        epochs = self.leader_epochs
        for topic, entries in answer.topics:
            for number, code, *_others, data in entries:
                if data:
                    partition = Partition(topic, number)
                    epochs[partition] = max(epochs.get(partition, -1), youngest_leader_epoch(data))
                elif code not in _HANDLED:
                    self._note_error(topic, number, code, request)
                    wait = True
        if wait:
            self._client.force_metadata_update()
            await asyncio.sleep(_PAUSE_SECONDS)  # as long as aiokafka waits where no answer came

    def _note_error(self, topic: str, number: int, code: int, request: Any) -> None:
        where = f"{topic}[{number}]"
        if faults.next_after(code) is Next.AGAIN:
            logger.warning("group %s: fetching %s: the broker answers %s; again", self._group, where, faults.name(code))
        elif code in faults.UNREADABLE:
            offsets = {(name, p): offset for name, entries in request.topics for p, offset, *_ in entries}
            self.failure = faults.unreadable(faults.name(code), where, offsets.get((topic, number)))
        else:
            self.failure = faults.raised(code, f"fetching {where} for group {self._group!r}")
