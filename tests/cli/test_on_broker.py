"""Commands that ask a real broker."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from playhead.dev.ports import pick_free
from tests.cli.installation import ADA, Installation
from tests.cli.sample import job_file
from tests.waiting import block_until

pytestmark = pytest.mark.kafka
Write = Callable[[str, str], Path]


@pytest.fixture
def here(kafka_bootstrap: str, tmp_path: Path, write: Write) -> Installation:
    write("pyproject.toml", '[tool.playhead]\ncatalog = ["playhead_schemas"]\nconsumers = ["ph_one.py"]\n')
    write("ph_one.py", job_file("one"))
    return Installation(kafka_bootstrap, tmp_path)


class TestTopics:
    def test_create_makes_what_the_project_needs_and_check_agrees(self, here: Installation) -> None:
        missing = here.run("topics", "check")
        assert missing.code == 1
        assert f"misfit  {here.prefix}user  does not exist" in missing.out
        assert "playhead topics create" in missing.err

        created = here.run("topics", "create", "--partitions", "2", "--json")
        assert created.code == 0, created.err
        made = {row["topic"]: row["partitions"] for row in json.loads(created.out) if row["created"]}
        assert made[f"{here.prefix}user"] == made[f"{here.prefix}run"] == 2
        assert made[f"{here.prefix}playhead.jobs"] == 1

        assert here.run("topics", "check").code == 0
        asked = here.run("topics", "check", "--partitions", "3", "--json")
        assert asked.code == 1
        problems = {row["topic"]: row["problems"] for row in json.loads(asked.out)}
        assert problems[f"{here.prefix}user"] == ["has 2 partitions, should have 3"]
        assert problems[f"{here.prefix}playhead.jobs"] == []

    def test_create_leaves_what_exists(self, here: Installation) -> None:
        assert f"created  {here.prefix}user" in here.run("topics", "create", "user").out
        assert f"exists   {here.prefix}user" in here.run("topics", "create", "user").out

    def test_describe_shows_settings_and_growth(self, here: Installation) -> None:
        here.run("topics", "create", "user")
        here.run("send", "user.created", ADA)
        rows = {row["topic"]: row for row in json.loads(here.run("topics", "describe", "--json").out)}
        user = rows[f"{here.prefix}user"]
        assert (user["cleanup"], user["retention"], user["offsets"]) == ("delete", "for ever", 1)

    def test_describe_shows_what_is_named_alone(self, here: Installation) -> None:
        here.run("topics", "create", "user", "file")
        shown = json.loads(here.run("topics", "describe", "file", f"{here.prefix}user", "--json").out)
        assert [row["topic"] for row in shown] == [f"{here.prefix}file", f"{here.prefix}user"]
        unknown = here.run("topics", "describe", "nosuch")
        assert unknown.code == 2
        assert "error PH104" in unknown.err
        assert "playhead topics create nosuch" in unknown.err

    @pytest.mark.parametrize("name", ["User", "user.created", "run", "a_b"])
    def test_create_refuses_what_is_no_entity(self, here: Installation, name: str) -> None:
        refused = here.run("topics", "create", name)
        assert refused.code == 2
        assert "is no entity" in refused.err


class TestSendAndTail:
    def test_what_was_sent_is_shown(self, here: Installation, write: Write) -> None:
        here.run("topics", "create", "user", "file")
        sent = here.run("send", "user.created", ADA, "--key", "k", "--id", "id-1", "--json")
        assert sent.code == 0, sent.err
        answer = json.loads(sent.out)
        assert (answer["id"], answer["name"], answer["topic"]) == ("id-1", "user.created", f"{here.prefix}user")
        write("payload.json", '{"fileId": "f-1", "filename": "a.txt"}')
        assert here.run("send", "file.uploaded", "@payload.json").code == 0
        assert (
            "sent file.uploaded" in here.run("send", "file.uploaded", "-", stdin='{"fileId":"f-2","filename":"b"}').out
        )

        everything = here.run("tail", "--from", "earliest", "--no-follow", "--json")
        shown = [json.loads(line) for line in everything.out.splitlines()]
        assert [event["name"] for event in shown] == ["user.created", "file.uploaded", "file.uploaded"]
        assert (shown[0]["id"], shown[0]["key"], shown[0]["payload"]) == ("id-1", "k", json.loads(ADA))

        files = here.run("tail", "file.*", "--from", "-10m", "--no-follow", "--limit", "1")
        assert len(files.out.splitlines()) == 1
        assert "f-1" in files.out
        assert here.run("tail", "user.updated", "--from", "earliest", "--no-follow").out == ""
        assert here.run("tail", "--no-follow").out == "", "from now on there is nothing yet"

    def test_send_without_a_topic_says_how_to_make_it(self, here: Installation) -> None:
        refused = here.run("send", "user.created", ADA)
        assert refused.code == 2
        assert f"error PH104: topic '{here.prefix}user' does not exist." in refused.err
        remedy = refused.err.partition("Create it: playhead ")[2].strip()
        assert remedy == "topics create user", "the entity: the command puts the prefix before it"
        assert here.run(*remedy.split()).code == 0
        assert here.run("send", "user.created", ADA).code == 0

    def test_tail_without_a_topic_lists_those_that_are_there(self, here: Installation) -> None:
        here.run("topics", "create", "user")
        refused = here.run("tail", "order.*", "--no-follow")
        assert refused.code == 2
        assert "no topic matches 'order.*'" in refused.err
        assert "dead-letter, run, schedule, user" in refused.err

    def test_tail_shows_a_topic_that_is_made_later_from_its_first_event_on(self, here: Installation) -> None:
        here.run("topics", "create", "user")
        here.run("send", "user.created", ADA)
        tail = here.start("tail", "*", "--from", "earliest", "--json")
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["name"] == "user.created"
        here.run("topics", "create", "order")
        assert here.run("send", "order.placed").code == 0
        assert json.loads(tail.stdout.readline())["name"] == "order.placed"
        os.killpg(tail.pid, signal.SIGINT)
        tail.stdout.close()
        assert tail.wait(20) == 130

    def test_tail_follows_until_its_reader_goes(self, here: Installation) -> None:
        here.run("topics", "create", "user")
        here.run("send", "user.created", ADA)
        tail = here.start("tail", "user.*", "--from", "earliest", "--json")
        assert tail.stdout is not None
        assert json.loads(tail.stdout.readline())["payload"]["userId"] == "7"
        here.run("send", "user.created", ADA.replace("7", "8"))
        assert json.loads(tail.stdout.readline())["payload"]["userId"] == "8"
        tail.stdout.close()
        here.run("send", "user.created", ADA)
        assert tail.wait(20) == 141


class TestHttp:
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
    def test_takes_events_until_it_is_told_to_stop(self, here: Installation, number: int, code: int) -> None:
        here.run("topics", "create", "user")
        port = pick_free()
        server = here.start("http", "--port", str(port))
        body = json.dumps({"event": "user.created", "payload": json.loads(ADA)}).encode()
        headers = {"Content-Type": "application/json"}
        trigger = urllib.request.Request(f"http://127.0.0.1:{port}/trigger", body, headers)

        def is_ready() -> bool:
            try:
                return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close() is None)
            except OSError:
                return False

        block_until(is_ready, seconds=20)
        with urllib.request.urlopen(trigger, timeout=10) as answer:
            assert json.load(answer)["success"] is True
        server.send_signal(number)
        server.communicate(timeout=30)
        assert server.returncode == code


class TestJobs:
    def test_reset_sets_where_a_job_goes_on(self, here: Installation) -> None:
        here.run("topics", "create")
        for _ in range(3):
            here.run("send", "user.created", ADA)
        assert json.loads(here.run("jobs", "--json").out)[0]["lag"] is None
        assert "not run yet" in here.run("jobs").out

        asked = here.run("jobs", "reset", "one", "--to", "earliest", stdin="n\n")
        assert asked.code == 1
        assert json.loads(here.run("jobs", "--json").out)[0]["lag"] is None

        done = here.run("jobs", "reset", "one", "--to", "earliest", "--yes", "--json")
        assert {row["offset"] for row in json.loads(done.out)} == {0}
        assert json.loads(here.run("jobs", "--json").out)[0]["lag"] == 3

        here.run("jobs", "reset", "one", "--to", "now", "--yes")
        assert json.loads(here.run("jobs", "--json").out)[0]["lag"] == 0
        assert here.run("jobs", "reset", "two", "--to", "now", "--yes").code == 2

    def test_reset_is_refused_while_a_worker_runs_and_keeps_the_lease(self, here: Installation) -> None:
        here.run("topics", "create")
        worker = here.start("worker")
        try:
            block_until(lambda: json.loads(here.run("jobs", "--json").out)[0]["lag"] == 0, seconds=20)
            refused = here.run("jobs", "reset", "one", "--to", "earliest", "--yes")
            assert refused.code == 2
            assert "has 1 worker" in refused.err
        finally:
            os.killpg(worker.pid, 15)
            worker.communicate(timeout=30)
        here.run("send", "user.created", ADA)
        assert here.run("jobs", "reset", "one", "--to", "earliest", "--yes").code == 0

        worker = here.start("worker")
        try:
            tail = here.run("tail", "run.succeeded", "--from", "earliest", "--limit", "1", "--json")
            assert json.loads(tail.out)["payload"]["lease"] == 2, "the second owner's"
        finally:
            os.killpg(worker.pid, 15)
            worker.communicate(timeout=30)
