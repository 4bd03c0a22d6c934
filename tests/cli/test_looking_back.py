"""`playhead events`, `runs`, `stats` and `dead-letters`: what the history's database answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from playhead.cli import asking, output
from playhead.cli.app import app
from playhead.errors import InvalidInput, NoHistory, NotInHistory, PlayheadError
from playhead.history.store import HistoryStore
from playhead.http import history_schemas as shapes
from tests.history.scene import Scene

T0 = 1_700_000_000_000
"""2023-11-14T22:13:20Z"""


@pytest.fixture
def scene(tmp_path: Path, write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    write("pyproject.toml", "[tool.playhead]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLAYHEAD_HISTORY_DATABASE", f"sqlite:///{tmp_path}/history.db")
    scene = Scene(HistoryStore(f"sqlite:///{tmp_path}/history.db"))
    yield scene
    scene.store.close()


def ran(*arguments: str) -> str:
    """What a command that ends well prints to stdout."""
    output.console.cache_clear()
    done = CliRunner().invoke(app, arguments)
    if isinstance(done.exception, PlayheadError):
        raise done.exception
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def told(*arguments: str) -> Any:
    return json.loads(ran(*arguments, "--json"))


def fill(scene: Scene) -> tuple[str, str]:
    """An event, a run on it that failed first, what that sent, and a dead letter. Returns the runs' ids."""
    scene.event("a", "user.created", T0, key="ada", payload={"address": {"city": "Rome"}})
    scene.told("a", "retrying", T0 + 1_000, error={"type": "E", "message": "no", "traceback": "line 1\nline 2"})
    one = scene.told("a", "succeeded", T0 + 2_000, attempt=2, output={"ok": True}, sent=["b"], logs=[{"event": "hi"}])
    scene.event("b", "email.sent", T0 + 2_000, cause="a", by=one)
    two = scene.told("b", "failed", T0 + 3_000, job="audit", error={"type": "E", "message": "[bold]bad[/bold]"})
    scene.letter("l", T0 + 3_000, job="audit", event_id="b")
    return one, two


class TestLists:
    def test_filter_as_the_api_does(self, scene: Scene) -> None:
        one, two = fill(scene)
        for arguments, ids in (
            (["events", "list"], ["b", "a"]),
            (["events", "list", "--name", "user"], ["a"]),
            (["events", "list", "--name", "email.sent"], ["b"]),
            (["events", "list", "--key", "ada"], ["a"]),
            (["events", "list", "--payload", "address.city=Rome"], ["a"]),
            (["events", "list", "--since", "2023-11-14T22:13:21Z"], ["b"]),
            (["events", "list", "--until", "2023-11-14T22:13:21Z"], ["a"]),
            (["runs", "list", "--job", "welcome"], [one]),
            (["runs", "list", "--state", "failed"], [two]),
            (["runs", "list", "--event", "b"], [two]),
            (["dead-letters", "list"], ["l"]),
            (["dead-letters", "list", "--state", "retried"], []),
            (["dead-letters", "list", "--state", "any", "--job", "audit"], ["l"]),
        ):
            assert [item["id"] for item in told(*arguments)["items"]] == ids, arguments

    def test_go_on_by_cursor(self, scene: Scene) -> None:
        fill(scene)
        first = told("events", "list", "--limit", "1")
        assert [item["id"] for item in told("events", "list", "--cursor", first["next"])["items"]] == ["a"]

    def test_json_is_the_apis(self, scene: Scene) -> None:
        one, _ = fill(scene)
        shapes.EventsAnswer.model_validate(told("events", "list"), strict=True)
        shapes.RunsAnswer.model_validate(told("runs", "list"), strict=True)
        shapes.LettersAnswer.model_validate(told("dead-letters", "list"), strict=True)
        shapes.ShownEvent.model_validate(told("events", "show", "a"), strict=True)
        shapes.ChainAnswer.model_validate(told("events", "chain", "b"), strict=True)
        shapes.ShownRun.model_validate(told("runs", "show", one), strict=True)
        shapes.ShownLetter.model_validate(told("dead-letters", "show", "l"), strict=True)
        shapes.StatsAnswer.model_validate(told("stats"), strict=True)
        shapes.CountsAnswer.model_validate(told("stats", "--as-of", "now"), strict=True)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["events", "list"],
            ["runs", "list"],
            ["dead-letters", "list"],
            ["stats", "--since", "2023-11-14T22:00Z", "--until", "2023-11-14T23:00Z"],
        ],
    )
    def test_tables_fit_into_a_hundred_columns(
        self, scene: Scene, arguments: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for n in range(2):
            id_ = f"01997f3e-5b7a-7000-9c1d-6a8f5a0c1b{n:02d}"
            scene.event(id_, "payment.succeeded", T0, key="customer-4711")
            scene.told(id_, "succeeded", T0 + 2_000, job="process-upload")
            scene.letter(f"01997f3f-5b7a-7000-9c1d-6a8f5a0c1b{n:02d}", T0, job="process-upload")
        ran(*arguments)
        wide = Console(width=100, highlight=False)
        monkeypatch.setattr(output, "console", lambda: wide)
        with wide.capture() as captured:
            CliRunner().invoke(app, arguments)
        lines = captured.get().splitlines()
        assert len(lines) == 3, captured.get()
        assert max(map(len, lines)) <= 100
        assert "…" not in captured.get()

    @pytest.mark.parametrize("command", ["events", "runs", "dead-letters"])
    def test_ids_and_times_are_whole_on_a_narrow_terminal(
        self, scene: Scene, command: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        id_, letter = "01997f3e-5b7a-7000-9c1d-6a8f5a0c1b00", "01997f3f-5b7a-7000-9c1d-6a8f5a0c1b00"
        job = "every-night-at-three-with-a-long-name-that-somebody-chose"
        scene.event(id_, f"schedule.{job}", T0, key=job)
        run = scene.told(id_, "succeeded", T0 + 2_000, job=job)
        scene.letter(letter, T0, job=job)
        ran(command, "list")
        narrow = Console(width=80, highlight=False)
        monkeypatch.setattr(output, "console", lambda: narrow)
        with narrow.capture() as captured:
            CliRunner().invoke(app, [command, "list"])
        head, first = captured.get().splitlines()[:2]
        assert {"events": id_, "runs": run, "dead-letters": letter}[command] in first
        assert not first.split()[0].endswith("…")
        assert max(len(head), len(first)) <= 80


class TestShown:
    def test_run_tells_its_attempts(self, scene: Scene) -> None:
        one, _ = fill(scene)
        text = ran("runs", "show", one)
        for word in (
            "succeeded",
            "user.created a",
            "ATTEMPT 1",
            "E: no",
            "line 2",
            "ATTEMPT 2",
            '"event": "hi"',
            "Rome",
            '"ok"',
            "email.sent b",
        ):
            assert word in text, word
        assert told("runs", "show", one, "--as-of", "2023-11-14T22:13:21.500Z")["state"] == "retrying"

    def test_bytes_that_are_no_json_are_told_to_be_in_base64(self, scene: Scene) -> None:
        scene.event("b", payload=b"\xff")
        assert "PAYLOAD  not JSON; its bytes in base64\n/w==" in ran("events", "show", "b")

    def test_facts_begin_on_the_first_line_and_name_dead_letters(self, scene: Scene) -> None:
        scene.event("a")
        scene.letter("of-a", event_id="a")
        text = ran("events", "show", "a")
        assert text.startswith("id ")
        assert "dead letters" in text
        assert "of-a" in text

    def test_text_of_others_is_no_markup(self, scene: Scene) -> None:
        _, two = fill(scene)
        assert "[bold]bad[/bold]" in ran("runs", "show", two)

    def test_chain_is_a_tree(self, scene: Scene) -> None:
        one, two = fill(scene)
        lines = ran("events", "chain", "b").splitlines()
        places = [
            next(at for at, line in enumerate(lines) if line.endswith(f"  {id_}")) for id_ in ("a", one, "b", two)
        ]
        assert places == [0, 1, 2, 3]

    def test_letter_shows_the_record_in_it(self, scene: Scene) -> None:
        fill(scene)
        text = ran("dead-letters", "show", "l")
        assert "it broke" in text
        assert '"n": 1' in text

    @pytest.mark.parametrize(
        "arguments", [["events", "show"], ["events", "chain"], ["runs", "show"], ["dead-letters", "show"]]
    )
    def test_what_history_does_not_have_is_an_error(self, scene: Scene, arguments: list[str]) -> None:
        with pytest.raises(NotInHistory):
            ran(*arguments, "nobody")


class TestStats:
    def test_are_by_job_and_by_time(self, scene: Scene) -> None:
        fill(scene)
        span = ["--since", "2023-11-14T22:00Z", "--until", "2023-11-14T23:00Z"]
        stats = told("stats", *span, "--step", "1h")
        assert [(one["job"], one["succeeded"], one["failed"]) for one in stats["items"]] == [
            ("audit", 0, 1),
            ("welcome", 1, 0),
        ]
        assert "50.00%" in ran("stats", *span)
        assert "welcome" not in ran("stats", *span, "--step", "5m", "--job", "audit")

    def test_are_as_they_were(self, scene: Scene) -> None:
        fill(scene)
        assert told("stats", "--as-of", "2023-11-14T22:13:21.500Z")["items"][0]["retrying"] == 1


class TestRefused:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["runs", "list", "--state", "done"],
            ["runs", "list", "--since", "soon"],
            ["runs", "list", "--cursor", "x"],
            ["events", "list", "--payload", "x"],
            ["dead-letters", "list", "--state", "x"],
            ["stats", "--step", "5"],
            ["stats", "--as-of", "now", "--since", "-1h"],
            ["stats", "--as-of", "now", "--step", "5m"],
            ["stats", "--step", "0m"],
            ["stats", "--since", "now", "--until", "-1h"],
        ],
    )
    def test_what_can_not_be_used(self, scene: Scene, arguments: list[str]) -> None:
        with pytest.raises(InvalidInput):
            ran(*arguments)

    def test_where_no_history_is_nothing_is_made(self, scene: Scene, tmp_path: Path) -> None:
        with pytest.raises(NoHistory, match="not there yet"):
            ran("runs", "list", "--database", f"sqlite:///{tmp_path}/none.db")
        assert not (tmp_path / "none.db").exists()


def test_moments_are_those_of_the_command_line() -> None:
    assert asking.moment_ms("1970-01-01T00:00:01Z") == 1_000
    assert asking.moment_ms("") is asking.moment_ms("earliest") is None
