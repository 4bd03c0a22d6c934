"""What happens next after each of Kafka's error codes. The one place that knows their numbers.

    0 ──▶ DONE
    retriable (a leader moved, a coordinator loads, replicas lag …) ──▶ AGAIN: the same request, after a short back-off
    the transaction can't go on, its content is sound ──▶ AFRESH: abort it, send all of it in a new one
    the group or another writer has moved on ──▶ FENCED
    the record itself ──▶ REFUSED
    the credentials ──▶ DENIED
    anything else ──▶ BROKEN: a mistake in a request; raise

Codes: `org.apache.kafka.common.protocol.Errors`.
"""

from __future__ import annotations

from enum import Enum

from aiokafka import errors as kafka_errors
from aiokafka.errors import for_code

from playhead.errors import (
    BrokerUnavailable,
    CheckpointLost,
    Fenced,
    InvalidInput,
    NotAuthorized,
    PlayheadError,
    UnreadableRecords,
)

NONE = 0
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
MESSAGE_TOO_LARGE = 10
OFFSET_METADATA_TOO_LARGE = 12
COORDINATOR_LOAD_IN_PROGRESS = 14
COORDINATOR_NOT_AVAILABLE = 15
INVALID_TOPIC = 17
RECORD_LIST_TOO_LARGE = 18
ILLEGAL_GENERATION = 22
INCONSISTENT_GROUP_PROTOCOL = 23
UNKNOWN_MEMBER_ID = 25
REBALANCE_IN_PROGRESS = 27
TOPIC_AUTHORIZATION_FAILED = 29
TOPIC_ALREADY_EXISTS = 36
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
DUPLICATE_SEQUENCE_NUMBER = 46
INVALID_PRODUCER_EPOCH = 47
CONCURRENT_TRANSACTIONS = 51
PRODUCER_FENCED = 90
UNSTABLE_OFFSET_COMMIT = 88
TRANSACTION_ABORTABLE = 120

_NAMES = {
    74: "FENCED_LEADER_EPOCH",
    75: "UNKNOWN_LEADER_EPOCH",
    78: "OFFSET_NOT_AVAILABLE",
    80: "PREFERRED_LEADER_NOT_AVAILABLE",
    82: "FENCED_INSTANCE_ID",
    87: "INVALID_RECORD",
    88: "UNSTABLE_OFFSET_COMMIT",
    89: "THROTTLING_QUOTA_EXCEEDED",
    90: "PRODUCER_FENCED",
    91: "RESOURCE_NOT_FOUND",
    100: "UNKNOWN_TOPIC_ID",
    103: "INCONSISTENT_TOPIC_ID",
    120: "TRANSACTION_ABORTABLE",
}


UNREADABLE = frozenset({2, 76})
"""Answers to a fetch: the broker's own copy is corrupt, or compressed as this protocol can't say."""


class Next(Enum):
    """What happens next."""

    DONE = "done"
    AGAIN = "again"
    AFRESH = "afresh"
    FENCED = "fenced"
    REFUSED = "refused"
    DENIED = "denied"
    BROKEN = "broken"


_MOVED = frozenset({3, 5, 6, 15, 16, 56, 74, 75, 100, 103})
"""The node asked is not (or not yet) the one: look up the leader or coordinator again."""

_NEXT: dict[int, Next] = {
    **dict.fromkeys((0, 46), Next.DONE),  # a duplicate sequence number is a retry that had arrived
    **dict.fromkeys((-1, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 51), Next.AGAIN),
    **dict.fromkeys((56, 74, 75, 78, 80, 88, 89, 100, 103), Next.AGAIN),
    **dict.fromkeys((45, 48, 49, 59, 120), Next.AFRESH),
    **dict.fromkeys((22, 25, 27, 47, 52, 82, 90), Next.FENCED),
    **dict.fromkeys((2, 10, 17, 18, 29, 32, 43, 44, 76, 87), Next.REFUSED),
    **dict.fromkeys((30, 31, 53, 58, 33, 34), Next.DENIED),
}


def next_after(code: int) -> Next:
    """What happens next after this error code of a broker."""
    return _NEXT.get(code, Next.BROKEN)


def moved(code: int) -> bool:
    """Whether the answer means that another node is the leader or coordinator now."""
    return code in _MOVED


def name(code: int) -> str:
    """The code's name and number, for people."""
    if code in _NAMES:
        return f"{_NAMES[code]} ({code})"
    return f"{for_code(code).__name__.removesuffix('Error')} ({code})"


def raised(code: int, doing: str) -> PlayheadError:
    """The error to raise where an operation outside a commit ended with `code`."""
    if code == TOPIC_AUTHORIZATION_FAILED or next_after(code) is Next.DENIED:
        return NotAuthorized(f"{doing}: the broker answers {name(code)}.")
    return BrokerUnavailable(f"{doing}: the broker answers {name(code)}.")


def of_fetch(error: Exception, group: str) -> PlayheadError:
    """The error to raise where aiokafka's consumer raised this one from a fetch."""
    if isinstance(error, kafka_errors.ConsumerStoppedError):
        return Fenced(f"this member has left group {group!r}.")
    if isinstance(error, kafka_errors.OffsetOutOfRangeError):
        where = ", ".join(f"{p.topic}[{p.partition}] at {offset}" for p, offset in error.args[0].items())
        return CheckpointLost(
            f"group {group!r} is to go on at an offset that is not in the log any more: {where}. Retention deleted "
            "what it had not read yet, or the topic was deleted and made again, or lost data."
        )
    if isinstance(error, kafka_errors.TopicAuthorizationFailedError | kafka_errors.GroupAuthorizationFailedError):
        return NotAuthorized(f"group {group!r} may not read: {error}.")
    if isinstance(error, kafka_errors.InconsistentGroupProtocolError):
        return InvalidInput(
            f"group {group!r} has members that are not Playhead's.", remedy="Stop them, or give the job another id."
        )
    if isinstance(error, kafka_errors.UnsupportedCodecError | kafka_errors.CorruptRecordException):
        return unreadable(error, f"what is fetched for group {group!r}")
    return BrokerUnavailable(f"fetching for group {group!r}: {error}.")


def unreadable(error: Exception | str, where: str, offset: int | None = None) -> UnreadableRecords:
    """The error to raise where a batch can't be decompressed or decoded."""
    why = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
    at = f"{where} at offset {offset}" if offset is not None else where
    remedy = "If the batch is damaged, say where to go on behind it: playhead jobs reset JOB --to TIME."
    if isinstance(error, kafka_errors.UnsupportedCodecError):
        remedy = "Install what reads compressed records, and start again: pip install cramjam"
    return UnreadableRecords(f"{at} can't be read: {why.rstrip('.')}.", remedy=remedy)
