"""A replay: a copy of an event, written for one job to work on it again. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from playhead.records import Headers
from playhead.serde import FOR_JOB, MAX_ID_CHARS, REPLAY_ID, REPLAY_OF


@dataclass(frozen=True, slots=True)
class Replay:
    """What makes a record a replay: a copy of an event, written for one job to work on it again.

    `of` is the run that is replayed, or the dead letter where no run began.
    """

    id: str
    of: str
    job_id: str

    def headers(self) -> Headers:
        return [(REPLAY_ID, self.id.encode()), (REPLAY_OF, self.of.encode()), (FOR_JOB, self.job_id.encode())]


def replay_of(headers: Mapping[str, bytes]) -> Replay | None:
    """The replay that the headers tell of; None where they tell of none, or it is not whole.

    A foreign sender's header of the same name is then no more than a header: the event is one like all others.
    """
    if REPLAY_ID not in headers:
        return None
    id_, of, job_id = (headers.get(name) or b"" for name in (REPLAY_ID, REPLAY_OF, FOR_JOB))
    for text in (id_, of, job_id):
        if not 0 < len(text) <= MAX_ID_CHARS or not text.isascii():
            return None
    return Replay(id_.decode(), of.decode(), job_id.decode())
