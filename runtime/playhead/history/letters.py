"""Settling dead letters: the job works on the record again, or nobody need look at the letter any more.

    letter ──▶ its record ──▶ copy, for the letter's job alone ──▶ dead-letter.retried
               (of the letter, or of the log where it was too large)

The copy goes where the original is, so that it is the same task's and in order with its key. Its replay id is the
letter's id: whoever tries again because no answer came, or at the same time, writes the same replay, which starts one
run. What is settled stays settled; a replay that fails has a dead letter of its own.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from playhead.broker.contract import Broker
from playhead.client import Client
from playhead.clock import SYSTEM_CLOCK, Clock
from playhead.errors import AlreadySettled, CheckpointLost, InvalidInput, NotInHistory, NotReplayable, PlayheadError
from playhead.events import short_text
from playhead.history.reading import Letter, Snapshots
from playhead.ids import new_event_id, run_id
from playhead.records import Headers, Partition, Record, StoredRecord
from playhead.replay import Replay, replay_of
from playhead.run import DeadLetter, DeadLetterDiscarded, DeadLetterRetried
from playhead.serde import (
    CAUSATION,
    CE_ID,
    CORRELATION,
    FOR_JOB,
    MINTED_HEADER,
    REPLAY_ID,
    REPLAY_OF,
    own_headers,
)

SETTLED_AT_ONCE_MAX = 500
_SOURCE = b"/playhead/dead-letters"
_OF_REPLAYS = frozenset({REPLAY_ID, REPLAY_OF, FOR_JOB})


@dataclass(frozen=True, slots=True)
class _Found:
    """A letter, and where it is in the log."""

    letter: Letter
    place: Partition


class Letters:
    """Settles dead letters that history knows.

    Args:
        history: is asked in a thread.
        client: has the broker; it stays the caller's.
    """

    def __init__(self, history: Snapshots, client: Client, clock: Clock = SYSTEM_CLOCK) -> None:
        self._history, self._client, self._clock = history, client, clock

    async def retry(self, ids: Sequence[str]) -> list[PlayheadError | None]:
        """Let each letter's job work on its record again, and settle the letter.

        Returns:
            For each what went wrong: NotInHistory, AlreadySettled, NotReplayable, or what the broker says. After
            BrokerUnavailable the copy may be there: retrying once more starts no second run.

        Raises:
            InvalidInput: too many.
            BrokerUnavailable: nothing was written.
        """
        broker, found = await self._client.broker(), await self._open(ids)
        copies: dict[str, Record | PlayheadError] = {}
        for id_, one in found.items():
            try:
                copies[id_] = one if isinstance(one, PlayheadError) else await self._copy(broker, one.letter)
            except PlayheadError as error:
                copies[id_] = error
        appended = await _append(broker, copies)
        settling: dict[str, Record | PlayheadError] = {}
        for id_, one in found.items():
            copy, refusal = copies[id_], appended[id_]
            if isinstance(one, _Found) and isinstance(copy, Record) and refusal is None:
                run = _run_of(one.letter, dict(copy.headers), copy.partition)
                event = DeadLetterRetried(letter_id=id_, job_id=one.letter.job_id, replay_run_id=run)
                settling[id_] = self._settlement(one, event)
            elif refusal is not None:
                settling[id_] = refusal
        settled = await _append(broker, settling)
        return [settled[id_] for id_ in ids]

    async def discard(self, ids: Sequence[str]) -> list[PlayheadError | None]:
        """Settle each letter without doing anything else. Returns and raises as `retry`."""
        broker, found = await self._client.broker(), await self._open(ids)
        settling: dict[str, Record | PlayheadError] = {}
        for id_, one in found.items():
            if isinstance(one, _Found):
                settling[id_] = self._settlement(one, DeadLetterDiscarded(letter_id=id_, job_id=one.letter.job_id))
            else:
                settling[id_] = one
        settled = await _append(broker, settling)
        return [settled[id_] for id_ in ids]

    async def _open(self, ids: Sequence[str]) -> dict[str, _Found | PlayheadError]:
        if len(ids) > SETTLED_AT_ONCE_MAX:
            raise InvalidInput(f"{len(ids)} dead letters are too many at once; {SETTLED_AT_ONCE_MAX} can be settled.")
        return await asyncio.to_thread(self._look_up, ids)

    def _look_up(self, ids: Sequence[str]) -> dict[str, _Found | PlayheadError]:
        found: dict[str, _Found | PlayheadError] = {}
        with self._history.snapshot() as now:
            for id_ in ids:
                letter = now.letter(id_)
                if letter is None:
                    found[id_] = NotInHistory("dead letter", id_)
                elif letter.state != "open":
                    found[id_] = AlreadySettled(id_, letter.state)
                else:
                    topic, partition, _ = now.letter_place(letter)
                    found[id_] = _Found(letter, Partition(topic, partition))
        return found

    # ── the copy ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _copy(self, broker: Broker, letter: Letter) -> Record:
        """The record that the letter is of, for the letter's job alone."""
        told = dead_letter(letter)
        if told is None:
            raise NotReplayable(letter.id, "it does not say what it is of")
        if told.left_out:
            original = await _read_again(broker, letter.id, told)
            key, value, headers = original.key, original.value, list(original.headers)
        else:
            key, value, headers = told.key_bytes(), told.value_bytes(), headers_of(told)
        replay = Replay(letter.id, told.run_id or letter.id, told.job_id)
        headers = [pair for pair in headers if pair[0] not in _OF_REPLAYS] + replay.headers()
        if replay_of(dict(headers)) is None:  # every job would take the copy for an event
            raise NotReplayable(letter.id, "its ids are not as Playhead writes them")
        return Record(told.topic, told.partition, key, value, headers, self._now_ms())

    def _settlement(self, found: _Found, event: DeadLetterRetried | DeadLetterDiscarded) -> Record:
        letter = found.letter
        told, now_ms = dead_letter(letter), self._now_ms()
        wrapped = {} if told is None else dict(headers_of(told))
        headers = own_headers(
            event.__event__.name.encode(),
            new_event_id().encode(),
            _SOURCE,
            now_ms,
            MINTED_HEADER,
            (CAUSATION, letter.id.encode()),
            (CORRELATION, short_text(wrapped.get(CORRELATION) or wrapped.get(CE_ID) or letter.id.encode())),
        )
        key = (letter.run_id or letter.id).encode()
        return Record(found.place.topic, found.place.partition, key, event.to_wire(), headers, now_ms)

    def _now_ms(self) -> int:
        return int(self._clock.time() * 1000)


def dead_letter(letter: Letter) -> DeadLetter | None:
    """What the letter tells; None where it can't be read."""
    try:
        told = DeadLetter.model_validate_json(letter.body)
        _ = headers_of(told), told.key_bytes(), told.value_bytes()
    except ValueError:  # pydantic's too, and that of base64
        return None
    return told


def replay_run_id(letter: Letter) -> str:
    """The id of the run that a retry of this letter starts; empty where the letter does not have the event's id."""
    told = dead_letter(letter)
    headers = {} if told is None else dict(headers_of(told))
    return _run_of(letter, headers, told.partition) if told is not None and CE_ID in headers else ""


def _run_of(letter: Letter, headers: Mapping[str, bytes], task: int) -> str:
    return run_id(letter.job_id, (headers.get(CE_ID) or b"").decode(errors="replace"), task, letter.id)


def headers_of(told: DeadLetter) -> Headers:
    """The headers of the record that the letter is of."""
    return [(name, b64decode(text, validate=True)) for name, text in told.headers]


async def _read_again(broker: Broker, letter_id: str, told: DeadLetter) -> StoredRecord:
    """The record that was too large for its letter, from its place in the log.

    Raises:
        NotReplayable: it is not there any more.
    """
    partition = Partition(told.topic, told.partition)
    where = f"offset {told.offset:,} of {told.topic}[{told.partition}]"
    start, end = (await broker.bounds([partition]))[partition]
    found: list[StoredRecord] = []

    async def keep(records: Sequence[StoredRecord]) -> None:
        found.extend(records)

    if start <= told.offset < end:
        try:
            await broker.read(partition, told.offset, told.offset + 1, keep)
        except CheckpointLost:
            found.clear()  # retention took it meanwhile
    if not found:
        raise NotReplayable(letter_id, f"{where} is not in the log any more")
    if found[0].timestamp != told.timestamp_ms:
        raise NotReplayable(letter_id, f"{where} is another record now, since the topic was made anew")
    return found[0]


async def _append(broker: Broker, records: Mapping[str, Record | PlayheadError]) -> dict[str, PlayheadError | None]:
    """Append those that are records, all at once; for each what went wrong, then or before."""
    wanted = {id_: record for id_, record in records.items() if not isinstance(record, PlayheadError)}
    results = dict(zip(wanted, await broker.append(list(wanted.values())) if wanted else [], strict=True))
    outcome: dict[str, PlayheadError | None] = {}
    for id_, record in records.items():
        result = record if isinstance(record, PlayheadError) else results[id_]
        if isinstance(result, Exception) and not isinstance(result, PlayheadError):
            raise result
        outcome[id_] = result if isinstance(result, PlayheadError) else None
    return outcome
