"""Every error has a code of its own and a heading in ERRORS.md."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from playhead import Settings, errors
from playhead.broker.memory import MemoryBroker
from playhead.broker.memory.topic import MemoryTopic
from playhead.engine import Worker
from playhead.events import MAX_NAME_CHARS, outgoing
from playhead.schedule import CronSchedule
from playhead.topics import MAX_MESSAGE_BYTES, TopicSpec, event_limit_bytes, unknown_topic

PAGE = Path(__file__).parent.parent / "runtime" / "playhead" / "ERRORS.md"


def classes() -> list[type[errors.PlayheadError]]:
    return [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.PlayheadError) and found.__module__ == errors.__name__
    ]


class TestErrors:
    def test_each_class_has_a_code_of_its_own(self) -> None:
        codes = [found.__dict__.get("code") for found in classes()]
        assert None not in codes
        assert len(codes) == len(set(codes))

    def test_page_has_each_error_and_no_other(self) -> None:
        headings = set(re.findall(r"^## (PH\d{3} \w+)$", PAGE.read_text(), re.MULTILINE))
        assert headings == {f"{found.code} {found.__name__}" for found in classes()}

    def test_tree_in_the_docstring_names_every_class(self) -> None:
        assert errors.__doc__ is not None
        assert {found.__name__ for found in classes()} - set(re.findall(r"\w+", errors.__doc__)) == set()

    def test_limit_of_names_is_on_the_page(self) -> None:
        section = PAGE.read_text().partition("## PH101")[2].partition("## ")[0]
        assert f"{MAX_NAME_CHARS} characters at most" in section


class TestUnknownTopic:
    @pytest.mark.parametrize(
        ("topic", "command"),
        [
            ("staging.user", "playhead topics create user"),
            ("staging.run", "playhead topics create"),
            ("staging.dead-letter", "playhead topics create"),
            ("staging.playhead.jobs", "playhead topics create"),
        ],
    )
    def test_remedy_is_a_command_that_makes_it(self, topic: str, command: str) -> None:
        """`topics create` takes entities, and none of Playhead's own."""
        assert unknown_topic(topic, "staging.").remedy == f"Create it: {command}"

    def test_missing_partition_is_not_to_be_created(self) -> None:
        error = unknown_topic("user", partition=7)
        assert error.message == "topic 'user' has no partition 7."
        assert "create" not in error.remedy


def examples() -> dict[str, str]:
    """code -> the example of its message."""
    return {code: text for text, code in re.findall(r"^> (.*\[(PH\d{3})\].*)$", PAGE.read_text(), re.MULTILINE)}


class TestExamples:
    """An example that nobody compares is soon an example of something else."""

    def test_each_stands_under_its_own_heading(self) -> None:
        for heading, text in re.findall(r"^## (PH\d{3}) \w+\n\n> (.+)$", PAGE.read_text(), re.MULTILINE):
            assert f"[{heading}]" in text

    def test_every_error_that_is_raised_by_itself_has_one(self) -> None:
        parents = {"PH000", "PH200", "PH300", "PH304", "PH308", "PH400"}
        assert {found.code for found in classes()} - set(examples()) == parents

    @pytest.mark.parametrize(
        ("code", "provoke"),
        [
            ("PH100", lambda: outgoing("example.made", {}, id="")),
            ("PH101", lambda: outgoing("userCreated", {})),
            (
                "PH103",
                lambda: _raise(errors.EventTooLarge("file.uploaded", 912_384, event_limit_bytes(MAX_MESSAGE_BYTES))),
            ),
            ("PH104", lambda: _raise(unknown_topic("parcel"))),
            ("PH107", lambda: Settings.from_env({"PLAYHEAD_SEND_TIMEOUT_SECONDS": "0"})),
            ("PH108", lambda: CronSchedule("0 25 * * *")),
            ("PH303", lambda: MemoryTopic(TopicSpec("user", 0))),
            ("PH307", lambda: Worker([], MemoryBroker())),
            (
                "PH315",
                lambda: _raise(errors.FolderUnusable(Path("/var/lib/playhead/timers"), OSError(30, os.strerror(30)))),
            ),
            ("PH314", lambda: _raise(errors.MissingExtra("history in PostgreSQL", "psycopg", "postgres"))),
        ],
    )
    def test_is_what_the_error_says(self, code: str, provoke: Callable[[], object]) -> None:
        with pytest.raises(errors.PlayheadError) as raised:
            provoke()
        assert str(raised.value) == examples()[code]


def _raise(error: Exception) -> None:
    raise error
