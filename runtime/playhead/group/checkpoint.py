"""A task's checkpoint as text: who owns it, and what is finished beyond the committed offset. Pure.

The text is the metadata of the committed offset, so it is committed with it and costs no record of its own:

    "1 <lease> <writer or -> <crashes>[@<offset>x<starts>] <runs>"

`runs` are varints in base64: lengths of unfinished and finished stretches by turns, from the committed offset on.

    offset    100  101  102  103  104  105  106
              run  ok   ok   run  run  ok   (not read yet)
    lengths   1 ── 2 ────── 2 ────── 1            committed offset 100, next to read 106

A stretch is at least one offset long, so a window of W offsets takes at most W bytes before base64: with the window of
2,000 offsets that a task keeps to, the text always fits `METADATA_LIMIT_BYTES`.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from playhead.errors import CheckpointLost

WINDOW_OFFSETS = 2_000
"""A task reads no further than this beyond its committed offset."""

_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Alone:
    """The run at `offset` was started alone, for the `starts`-th time, because it may have killed its worker."""

    offset: int
    starts: int


@dataclass(frozen=True, slots=True)
class Owner:
    """The part of a checkpoint that is the same for all of a task's partitions.

    `lease` grows by one with each takeover. `writer` is the owner's, or empty after a graceful stop. `crashes` counts
    takeovers in a row from an owner that died before it had finished what it had started.
    """

    lease: int = 0
    writer: str = ""
    crashes: int = 0
    alone: Alone | None = None


def next_offset(position: int, unfinished: Iterable[int]) -> int:
    """The committed offset: the lowest that has not ended. `unfinished` is ascending and below `position`."""
    return next(iter(unfinished), position)


def encode(owner: Owner, position: int, unfinished: Iterable[int]) -> str:
    """The metadata of a partition of which everything below `position` but `unfinished` (ascending) is finished."""
    lengths = bytearray()
    start = previous = -1
    for offset in unfinished:
        if start < 0:
            start = offset
        elif offset > previous + 1:
            _varint(lengths, previous + 1 - start)
            _varint(lengths, offset - previous - 1)
            start = offset
        previous = offset
    if start >= 0:
        _varint(lengths, previous + 1 - start)
        if position > previous + 1:
            _varint(lengths, position - previous - 1)
    runs = urlsafe_b64encode(lengths).rstrip(b"=").decode()
    alone = f"@{owner.alone.offset}x{owner.alone.starts}" if owner.alone else ""
    return f"{_FORMAT} {owner.lease} {owner.writer or '-'} {owner.crashes}{alone} {runs}".rstrip()


def decode(offset: int, metadata: str) -> tuple[Owner, list[range]]:
    """The owner, and the finished ranges beyond committed offset `offset`, ascending.

    An empty text (a group that something else reset) is nobody's, with nothing finished.

    Raises:
        CheckpointLost: the text is not Playhead's.
    """
    if not metadata:
        return Owner(), []
    try:
        owner, lengths = _parsed(metadata)
    except (ValueError, TypeError) as error:
        raise CheckpointLost(
            f"the committed offset {offset} carries metadata that Playhead did not write: {metadata[:80]!r}.",
            remedy="Another consumer uses this job's group. Give the job an id of its own, or stop the other one.",
        ) from error
    finished, at = [], offset
    for i, length in enumerate(lengths):
        if i % 2:
            finished.append(range(at, at + length))
        at += length
    return owner, finished


def _parsed(metadata: str) -> tuple[Owner, list[int]]:
    """The owner, and the lengths of unfinished and finished stretches by turns.

    Raises:
        ValueError, TypeError: the text is not Playhead's.
    """
    version, lease, writer, crashes, *rest = metadata.split(" ")
    if version != _FORMAT:
        raise ValueError(version)
    crashes, _, alone = crashes.partition("@")
    started_alone = Alone(*(int(number) for number in alone.split("x"))) if alone else None
    (runs,) = rest or [""]
    lengths = _varints(urlsafe_b64decode(runs + "=" * (-len(runs) % 4)))
    return Owner(int(lease), "" if writer == "-" else writer, int(crashes), started_alone), lengths


def _varint(into: bytearray, value: int) -> None:
    while value > 0x7F:
        into.append(value & 0x7F | 0x80)
        value >>= 7
    into.append(value)


def _varints(data: bytes) -> list[int]:
    values, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            values.append(value)
            value = shift = 0
    if shift:
        raise ValueError("a varint is cut off")
    return values
