"""Every error of Playhead, named by what happens next.

    PlayheadError
    ├── InvalidInput            the caller's words are wrong; sending them again changes nothing
    │   ├── InvalidEventName        the name breaks the convention
    │   ├── InvalidPayload          the payload breaks its schema
    │   ├── EventTooLarge           the event is larger than its topic takes
    │   ├── UnknownTopic            no topic of that entity
    │   ├── NotAuthorized           the broker refuses these credentials
    │   ├── InvalidJob              a job's definition contradicts itself or another's
    │   ├── InvalidSchedule         a cron, an interval or what goes with it can't be used
    │   ├── InvalidDelay            `delay` or `at` can't be used
    │   ├── TooLate                 the timer has fired, or was canceled before
    │   ├── TimerKept               the broker refuses a timer as it would be after a move
    │   ├── UnknownSchedule         no job of this id has declared a schedule
    │   ├── NotInHistory            history has no event, run or dead letter of this id
    │   ├── AlreadySettled          the dead letter was retried or discarded before
    │   ├── NotReplayable           what the dead letter is of can't be had any more
    │   └── InvalidSetting          a setting can't be used
    ├── Retriable               nothing is wrong with the request: the same call may succeed later
    │   ├── BrokerUnavailable       the broker did not answer in time
    │   ├── SchedulerSilent         no scheduler answered in time
    │   ├── TimersUnread            topic `delay` is still being read
    │   ├── DatabaseUnavailable     the history's database did not answer
    │   └── NoHistory               there is no history's database yet
    ├── Fatal                   a person has to act; the process says what to do and stops
    │   ├── BrokerTooOld            the broker's transaction.version is below 2
    │   ├── CheckpointLost          a group's committed offset expired or fell off the log
    │   ├── TopicMisfit             a topic's partitions or settings do not fit
    │   ├── TopicGone               a topic was deleted under those who read it
    │   ├── NoBroker                no way to start or find a broker
    │   ├── AlreadyRunning          another process owns this folder
    │   ├── PortInUse               another program listens on the port
    │   ├── NoJobs                  nothing to run was found
    │   ├── BrokenDownload          a downloaded file is not what was pinned
    │   ├── UnreadableRecords       a batch of the log can't be decompressed or decoded
    │   ├── StoreUnusable           the local store of timers can't be written
    │   ├── FolderUnusable          the folder for data can't be written
    │   ├── HistoryStopped          history can't go on in a partition: the log has not what comes next
    │   ├── HistoryMisfit           the history's database is another's, or of another format
    │   └── MissingExtra            a package is not installed that only this command needs
    ├── Fenced                  another member owns the task now; this one drops its work
    └── Poison                  this record can never be read; it goes to the dead letters

Each class that a user can meet has a `code`; `runtime/playhead/ERRORS.md` has a heading for each code with its remedy.

A job raises `NonRetriableError` or `RetryAfter` to steer its own retries (see `playhead.retry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class PlayheadError(Exception):
    """What went wrong, with a stable code and what to do about it.

    Attributes:
        code: `PH` and three digits; never reused. The heading in ERRORS.md.
        remedy: what the reader can do, as one sentence.
        retriable: whether the same call may succeed later, unchanged.
    """

    code = "PH000"
    remedy = ""
    retriable = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        if remedy:
            self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]" + (f" {self.remedy}" if self.remedy else "")


class InvalidInput(PlayheadError):
    """The caller's words are wrong; nothing was written."""

    code = "PH100"


class InvalidEventName(InvalidInput):
    """The event's name breaks the naming convention.

    Attributes:
        rule: which rule it breaks, as a sentence.
        suggestion: a name that would pass, or None.
    """

    code = "PH101"

    def __init__(self, name: object, rule: str, suggestion: str | None = None) -> None:
        self.name, self.rule, self.suggestion = name, rule, suggestion
        remedy = f"Did you mean {suggestion!r}?" if suggestion else "Use entity.action, such as 'user.created'."
        super().__init__(f"event name {name!r}: {rule}", remedy=remedy)


class InvalidPayload(InvalidInput):
    """The payload breaks its event's schema, or is not a JSON object.

    Attributes:
        fields: (path, what is wrong) of each offending field; the path is dotted, as on the wire.
    """

    code = "PH102"
    remedy = "Correct the fields named; the catalog has the schema."

    def __init__(self, name: str, fields: Sequence[tuple[str, str]]) -> None:
        self.name, self.fields = name, tuple(fields)
        super().__init__(f"payload of {name!r}: " + "; ".join(f"{f or '(payload)'}: {why}" for f, why in fields) + ".")


class EventTooLarge(InvalidInput):
    """The event is larger than its topic takes, less the room that a dead letter's wrapper needs."""

    code = "PH103"
    remedy = "Store the data elsewhere and send a reference, or raise the topic's max.message.bytes."

    def __init__(self, name: str, size_bytes: int, limit_bytes: int) -> None:
        self.name, self.size_bytes, self.limit_bytes = name, size_bytes, limit_bytes
        super().__init__(f"event {name!r} is {size_bytes:,} bytes; its topic takes {limit_bytes:,}.")


class UnknownTopic(InvalidInput):
    """The entity has no topic, or its topic has not that partition. `playhead.topics.unknown_topic` makes one."""

    code = "PH104"

    def __init__(self, topic: str, partition: int | None = None, *, remedy: str) -> None:
        self.topic = topic
        what = "does not exist" if partition is None else f"has no partition {partition}"
        super().__init__(f"topic {topic!r} {what}.", remedy=remedy)


class NotAuthorized(InvalidInput):
    """The broker refuses this operation to these credentials."""

    code = "PH105"
    remedy = "Grant the operation with kafka-acls, or check the PLAYHEAD_SASL_* settings."


class InvalidJob(InvalidInput):
    """A job's definition contradicts itself or another job's."""

    code = "PH106"


class InvalidDelay(InvalidInput):
    """`delay` or `at` of an event can't be used.

    Attributes:
        field: which part: `delay`, `delay.hours`, `at`.
        why: what is wrong with it, as a sentence.
    """

    code = "PH109"
    remedy = 'Give one of them: delay={"hours": 24}, or at="2027-03-01T09:00:00+01:00".'

    def __init__(self, field: str, why: str) -> None:
        self.field, self.why = field, why
        super().__init__(f"{field}: {why}")


class TooLate(InvalidInput):
    """The timer is not pending: it has fired, was canceled before, or never was."""

    code = "PH110"
    remedy = "Nothing was changed. If its event must not have an effect, send another that undoes it."

    def __init__(self, timer_id: str) -> None:
        self.timer_id = timer_id
        super().__init__(f"timer {timer_id!r} is not pending: it has fired, was canceled before, or never was.")


class UnknownSchedule(InvalidInput):
    """No job of this id has declared a schedule, or it was taken back."""

    code = "PH111"

    def __init__(self, job_id: str, known: Sequence[str]) -> None:
        self.job_id = job_id
        remedy = f"Jobs that have: {', '.join(known)}." if known else "No job has; a worker declares those of its jobs."
        super().__init__(f"job {job_id!r} has declared no schedule.", remedy=remedy)


class NotInHistory(InvalidInput):
    """History has no event, run or dead letter of this id."""

    code = "PH112"
    remedy = "Check the id. What has just happened is there a moment later, once history has read it."

    def __init__(self, what: str, id_: str) -> None:
        self.id = id_
        super().__init__(f"history has no {what} {id_!r}.")


class AlreadySettled(InvalidInput):
    """The dead letter was retried or discarded before."""

    code = "PH113"
    remedy = "Nothing was changed. A retry that failed has a dead letter of its own."

    def __init__(self, letter_id: str, state: str) -> None:
        self.letter_id, self.state = letter_id, state
        super().__init__(f"dead letter {letter_id!r} was {state} before.")


class NotReplayable(InvalidInput):
    """What the dead letter is of can't be had any more, so nobody can work on it again."""

    code = "PH114"
    remedy = "Send the event again where you have its payload, or discard the letter."

    def __init__(self, letter_id: str, why: str) -> None:
        self.letter_id, self.why = letter_id, why
        super().__init__(f"dead letter {letter_id!r} can't be retried: {why}.")


class TimerKept(InvalidInput):
    """The timer can't be moved: with its new id and moment the broker does not take it. It is due when it was."""

    code = "PH115"
    remedy = "Cancel it, and send its event anew with what it needs only."

    def __init__(self, timer_id: str) -> None:
        self.timer_id = timer_id
        super().__init__(f"the broker refuses timer {timer_id!r} as it would be after the move; nothing was changed.")


class InvalidSetting(InvalidInput):
    """A setting from the environment, a flag or [tool.playhead] can't be used."""

    code = "PH107"


class InvalidSchedule(InvalidInput):
    """A cron expression, a time zone, an interval, a jitter or a catch-up policy can't be used."""

    code = "PH108"
    remedy = "Correct the schedule."


class Retriable(PlayheadError):
    """Nothing is wrong with the request; the same call may succeed later."""

    code = "PH200"
    retriable = True


class BrokerUnavailable(Retriable):
    """The broker could not be reached, or did not answer in time.

    For a send, the outcome is unknown: it may still be written. Sending again with the same `id=` starts no second run
    within the job's `dedupe_window`.
    """

    code = "PH201"
    remedy = "Check that the broker is up and PLAYHEAD_BOOTSTRAP_SERVERS names it, then send again with the same id."


class SchedulerSilent(Retriable):
    """No scheduler answered in time. The request stays in the log, and the next scheduler answers it."""

    code = "PH202"
    remedy = "Check that a scheduler runs (playhead scheduler), then ask again: what was asked for may be done by then."


class TimersUnread(Retriable):
    """Topic `delay` is being read, for the first time or after a long while."""

    code = "PH203"
    remedy = "Ask again later; it is done once, and goes on meanwhile."

    def __init__(self, read: int, offsets: int) -> None:
        super().__init__(f"topic `delay` is still being read: {read:,} of {offsets:,} offsets.")


class DatabaseUnavailable(Retriable):
    """The history's database does not answer, or can't be written to."""

    code = "PH204"
    remedy = "Check that it is up and PLAYHEAD_HISTORY_DATABASE names it, then try again."


class NoHistory(Retriable):
    """There is no history's database yet."""

    code = "PH205"
    remedy = "Start `playhead history`, and check that PLAYHEAD_HISTORY_DATABASE names its database here too."

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the history in {name} {why}.")


class Fatal(PlayheadError):
    """A person has to act; the process says what to do and stops."""

    code = "PH300"


class BrokerTooOld(Fatal):
    """The broker's transaction.version is below 2, so commits can't be fenced as Playhead needs (KIP-890)."""

    code = "PH301"


class CheckpointLost(Fatal):
    """A group's committed offset expired, or points outside the log. Never answered by a jump."""

    code = "PH302"


class TopicMisfit(Fatal):
    """A topic exists but its partitions or settings do not fit what Playhead needs."""

    code = "PH303"


class TopicGone(Fatal):
    """A topic was deleted while its readers ran."""

    code = "PH311"


class NoBroker(Fatal):
    """No broker is configured and none could be started."""

    code = "PH304"


class AlreadyRunning(Fatal):
    """Another process owns this folder or this database."""

    code = "PH305"


class PortInUse(Fatal):
    """Another program listens on the port."""

    code = "PH306"


class NoJobs(Fatal):
    """Nothing to run was found where the command looked."""

    code = "PH307"


class BrokenDownload(Fatal):
    """A downloaded file does not have the checksum that is pinned for it."""

    code = "PH308"


class UnreadableRecords(Fatal):
    """A batch of the log can't be decompressed or decoded. Never skipped: it may hold any number of events."""

    code = "PH309"


class StoreUnusable(Fatal):
    """The local store of timers can't be written: the disk is full, or the folder can't be."""

    code = "PH310"
    remedy = (
        "Free space there, or use another folder: playhead scheduler --data-dir. It is only a cache of topic `delay`."
    )


class FolderUnusable(Fatal):
    """The folder for this process's data is missing and can't be made, or can't be written."""

    code = "PH315"
    remedy = (
        "Make it writable for this process's user (in a container: mount a volume there), "
        "or name another folder: PLAYHEAD_DATA_DIR."
    )

    def __init__(self, folder: Path, error: OSError, *, remedy: str = "") -> None:
        self.folder = folder
        super().__init__(f"the folder {folder} can't be written: {error.strerror or error}.", remedy=remedy)


class HistoryStopped(Fatal):
    """History can't go on in a partition: the log no longer has what comes next there. Never answered by a jump.

    The other partitions are read on; this one is when a person has decided.
    """

    code = "PH312"


class HistoryMisfit(Fatal):
    """The history's database is another installation's, of another format, or no history at all."""

    code = "PH313"


class MissingExtra(Fatal):
    """A package is not installed that only this command needs."""

    code = "PH314"

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}.", remedy=f"Install it: pip install 'playhead[{extra}]'")


class Fenced(PlayheadError):
    """Another member owns the task now; this one drops its work and takes part in the next generation."""

    code = "PH400"


class Poison(PlayheadError):
    """This record can never be read by this job; it is kept in the dead letters with the reason."""

    code = "PH500"
