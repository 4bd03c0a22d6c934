"""What happened, over HTTP: pages, one of each, sums, lag, and settling dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from playhead import Client, event_trigger
from playhead.broker.memory import MemoryBroker
from playhead.engine import Worker
from playhead.events import outgoing
from playhead.history.letters import replay_run_id
from playhead.history.opening import Reading
from playhead.history.store import HistoryStore
from playhead.http import create_app, reaches
from playhead.http import history_schemas as shapes
from playhead.topics import DEAD_LETTER
from tests.history.scene import History, Scene
from tests.waiting import wait_until

T0 = "1970-01-01T00:00:0{}.000Z"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(HistoryStore(f"sqlite:///{tmp_path}/history.db"))
    yield scene
    scene.store.close()


@pytest.fixture
async def http(client: Client, memory: MemoryBroker, scene: Scene) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(client, broker_reached=reaches(memory), history=History(scene.store))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        yield http


async def got(http: httpx.AsyncClient, path: str, model: Any = None, **query: Any) -> dict[str, Any]:
    """The body of a 200, which fits its schema."""
    answer = await http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    if model is not None:
        shown = model.model_validate(body, strict=True, extra="forbid")
        assert shown.model_dump(exclude_unset=True) == body
    return body


def ids(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["items"]]


class TestEvents:
    async def test_are_found_by_name_entity_key_time_and_payload(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.event("a", "user.created", 1_000, key="ada", payload={"address": {"city": "Rome"}})
        scene.event("b", "user.updated", 2_000, payload={"n": 7})
        scene.event("c", "file.uploaded", 3_000)
        for query, found in (
            ({}, ["c", "b", "a"]),
            ({"name": "user.created"}, ["a"]),
            ({"entity": "user"}, ["b", "a"]),
            ({"key": "ada"}, ["a"]),
            ({"since": T0.format(2), "until": T0.format(3)}, ["b"]),
            ({"payload.address.city": "Rome"}, ["a"]),
            ({"payload.n": "7", "entity": "user"}, ["b"]),
        ):
            assert ids(await got(http, "/api/events", shapes.EventsAnswer, **query)) == found, query

    async def test_pages_go_on_where_the_last_ended(self, http: httpx.AsyncClient, scene: Scene) -> None:
        for n in range(5):
            scene.event(f"e{n}", at_ms=n)
        seen, cursor = [], None
        while cursor is not None or not seen:
            page = await got(http, "/api/events", limit=2, **({"cursor": cursor} if cursor else {}))
            seen += ids(page)
            cursor = page["next"]
            scene.event(f"late{len(seen)}", at_ms=100)
        assert seen == ["e4", "e3", "e2", "e1", "e0"]

    async def test_one_shows_payload_headers_and_the_runs_on_it(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.event("a", "user.created", 1_000, payload={"x": 1})
        run = scene.told("a", "succeeded", 2_000)
        for letter, event in (("of-a", "a"), ("of-b", "b")):
            scene.letter(letter, 2_000, event_id=event)
        shown = await got(http, "/api/events/a", shapes.ShownEvent)
        assert shown["deadLetters"] == ["of-a"]
        assert (shown["payload"], [one["id"] for one in shown["runs"]]) == ({"x": 1}, [run])
        assert shown["time"] == T0.format(1)

    async def test_payload_that_is_no_json_is_there_in_base64(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.event("a/b c", payload=b"\xff")
        shown = await got(http, "/api/events/a%2Fb%20c", shapes.ShownEvent)
        assert (shown["id"], shown["payload"], shown["payloadBase64"]) == ("a/b c", None, "/w==")

    async def test_chain_is_a_tree(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.event("a", "file.uploaded", 1_000)
        run = scene.told("a", "succeeded", 1_100, job="process")
        scene.event("b", "file.processed", 1_100, cause="a", by=run)
        chain = await got(http, "/api/events/b/chain", shapes.ChainAnswer)
        (below,) = chain["root"]["children"]
        assert (chain["root"]["id"], below["id"], below["children"][0]["id"]) == ("a", run, "b")

    async def test_chain_of_any_depth_is_shown(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.event("c0", cause="c1")  # a circle has no end
        scene.event("c1", cause="c0")
        for n in range(300):
            scene.event(f"d{n}", cause=f"d{n - 1}" if n else "")
        for event_id in ("c0", "d0", "d299"):
            chain = await got(http, f"/api/events/{event_id}/chain")
            depth, node = 0, chain["root"]
            while node["children"]:
                depth, node = depth + 1, node["children"][0]
            assert depth >= (1 if event_id == "c0" else 64)

    @pytest.mark.parametrize("depth", [90, 190, 250, 600, 1_020])
    async def test_payload_of_any_depth_is_shown(self, http: httpx.AsyncClient, scene: Scene, depth: int) -> None:
        payload = b"[" * depth + b"]" * depth
        scene.event("a")
        scene.write("user", 0, 1_000, "k", payload, type="user.created", id="d", source="/test")
        run = scene.told("d", "failed", 2_000)
        body = b'{"runId": "%b", "jobId": "j", "output": %b, "logs": [%b]}' % (run.encode(), payload, payload)
        scene.write("run", 0, 3_000, run, body, type="run.succeeded", id="x")
        event = await got(http, "/api/events/d")
        assert ("payloadBase64" in event) == (depth > 199)
        assert len((await got(http, f"/api/runs/{run}"))["attempts"]) == 2

    @pytest.mark.parametrize("path", ["/api/events/x", "/api/events/x/chain", "/api/runs/x", "/api/dead-letters/x"])
    async def test_what_history_does_not_have_is_404(self, http: httpx.AsyncClient, path: str) -> None:
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "PH112")


class TestRuns:
    async def test_are_found_by_job_state_event_and_time(self, http: httpx.AsyncClient, scene: Scene) -> None:
        one = scene.told("a", "succeeded", 1_000)
        two = scene.told("b", "failed", 2_000, error={"type": "ValueError", "message": "no"})
        three = scene.told("a", "succeeded", 3_000, job="crm")
        for query, found in (
            ({}, [three, two, one]),
            ({"job": "welcome"}, [two, one]),
            ({"state": "failed"}, [two]),
            ({"state": "running"}, []),
            ({"event_id": "a"}, [three, one]),
            ({"since": "1970-01-01T00:00:01.500Z", "until": "1970-01-01T00:00:02.500Z"}, [two]),
        ):
            assert ids(await got(http, "/api/runs", shapes.RunsAnswer, **query)) == found, query

    async def test_one_shows_its_attempts_input_output_and_what_it_sent(
        self, http: httpx.AsyncClient, scene: Scene
    ) -> None:
        scene.event("a", payload={"x": 1})
        error = {"type": "ValueError", "message": "no", "traceback": "Traceback …"}
        scene.told("a", "retrying", 2_000, error=error, dueAt=T0.format(3), logs=[{"message": "hello"}])
        run = scene.told("a", "succeeded", 4_000, attempt=2, output={"ok": True}, sent=["b"], replayOf="r-0")
        scene.event("b", "user.greeted", 4_000, cause="a", by=run)
        shown = await got(http, f"/api/runs/{run}", shapes.ShownRun)
        assert (shown["input"], shown["output"], shown["replayOf"]) == ({"x": 1}, {"ok": True}, "r-0")
        assert shown["sent"] == [{"id": "b", "name": "user.greeted"}]
        first, second = shown["attempts"]
        assert (first["state"], first["error"], first["logs"]) == ("retrying", error, [{"message": "hello"}])
        assert (second["state"], second["attempt"]) == ("succeeded", 2)

    async def test_one_is_shown_as_it_was(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.told("a", "retrying", 2_000, error={"type": "ValueError", "message": "no"})
        run = scene.told("a", "succeeded", 4_000, attempt=2, output=1)
        for at, state, attempts in ((1, None, 0), (3, "retrying", 1), (4, "succeeded", 2)):
            shown = await got(http, f"/api/runs/{run}", shapes.ShownRun, as_of=T0.format(at))
            assert (shown["state"], len(shown["attempts"])) == (state, attempts)
            assert (shown["endedAt"] is None) == (state != "succeeded")
            assert shown["output"] == (1 if state == "succeeded" else None)


class TestStats:
    async def test_are_by_job_and_step(self, http: httpx.AsyncClient, scene: Scene) -> None:
        for minute, state in ((0, "succeeded"), (0, "failed"), (1, "succeeded")):
            scene.told(f"{minute}{state}", state, minute * 60_000 + 500)
        scene.event("a", at_ms=61_000)
        span = {"since": "1970-01-01T00:00:00Z", "until": "1970-01-01T00:02:00Z", "step": 60}
        stats = await got(http, "/api/stats", shapes.StatsAnswer, **span)
        assert (stats["total"]["succeeded"], stats["total"]["failed"]) == (2, 1)
        assert stats["jobs"][0]["successRate"] == pytest.approx(2 / 3)
        assert [(item["at"], item["succeeded"]) for item in stats["items"]] == [
            (T0.format(0), 1),
            ("1970-01-01T00:01:00.000Z", 1),
        ]
        assert stats["events"] == [{"at": "1970-01-01T00:01:00.000Z", "name": "user.created", "count": 1}]
        assert (await got(http, "/api/stats", shapes.StatsAnswer, job="nobody", **span))["items"] == []

    async def test_of_no_span_are_of_the_last_hour(self, http: httpx.AsyncClient) -> None:
        stats = await got(http, "/api/stats", shapes.StatsAnswer)
        assert (stats["stepSeconds"], stats["items"], stats["total"]["successRate"]) == (60, [], None)

    async def test_counts_are_as_they_were(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.told("a", "retrying", 2_000)
        scene.told("a", "succeeded", 4_000, attempt=2)
        counts = await got(http, "/api/stats", shapes.CountsAnswer, as_of=T0.format(3))
        assert counts["items"] == [{"job": "welcome", "running": 0, "retrying": 1, "succeeded": 0, "failed": 0}]


class TestParameters:
    @pytest.mark.parametrize(
        ("path", "query", "field"),
        [
            ("/api/events", "nme=x", "nme"),
            ("/api/events", "payload=x", "payload"),
            ("/api/events", "payload.=x", "payload."),
            ("/api/events", "name=user", "name"),
            ("/api/events", "entity=user.created", "entity"),
            ("/api/events", "name=a.b&entity=a", "entity"),
            ("/api/events", "name=", "name"),
            ("/api/events", "name=a.b&name=a.c", "name"),
            ("/api/events", "limit=0", "limit"),
            ("/api/events", "limit=501", "limit"),
            ("/api/events", "since=yesterday", "since"),
            ("/api/events/x", "full=1", "full"),
            ("/api/runs", "state=done", "state"),
            ("/api/runs/x", "as_of=now", "as_of"),
            ("/api/stats", "step=30", "step"),
            ("/api/stats", "step=90", "step"),
            ("/api/stats", "since=2020-01-01T00:00:00Z&step=60", "step"),
            ("/api/stats", "since=2020-01-02T00:00:00Z&until=2020-01-01T00:00:00Z", "since"),
            ("/api/stats", "as_of=2020-01-01T00:00:00Z&step=60", "step"),
            ("/api/lag", "jobs=x", "jobs"),
            ("/api/dead-letters", "state=closed", "state"),
        ],
    )
    async def test_that_can_not_be_used_are_422_and_named(
        self, http: httpx.AsyncClient, path: str, query: str, field: str
    ) -> None:
        answer = await http.get(f"{path}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "PH607")
        assert ".." not in answer.json()["error"]
        assert ". " not in answer.json()["error"]
        assert field in [one["field"] for one in answer.json()["fields"]]

    async def test_cursor_that_is_none_is_422(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/runs?cursor=x")
        assert (answer.status_code, answer.json()["code"]) == (422, "PH100")


class TestLetters:
    async def test_are_listed_and_shown(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.letter("l0", 1_000)
        scene.letter("l1", 2_000, job="crm")
        scene.settle("l0", "discarded", 3_000)
        assert ids(await got(http, "/api/dead-letters", shapes.LettersAnswer)) == ["l1", "l0"]
        assert ids(await got(http, "/api/dead-letters", shapes.LettersAnswer, state="open")) == ["l1"]
        assert ids(await got(http, "/api/dead-letters", shapes.LettersAnswer, job="crm")) == ["l1"]
        shown = await got(http, "/api/dead-letters/l0", shapes.ShownLetter)
        assert (shown["state"], shown["settledAt"], shown["attempts"]) == ("discarded", T0.format(3), 3)
        assert (shown["record"]["value"], shown["record"]["key"]) == ({"n": 1}, "k")

    async def test_one_that_can_not_be_read_is_shown_all_the_same(self, http: httpx.AsyncClient, scene: Scene) -> None:
        scene.write("dead-letter", 0, 1_000, "k", {"jobId": "j"}, type="dead-letter.created", id="l")
        assert (await got(http, "/api/dead-letters/l", shapes.ShownLetter))["record"] is None
        answer = await http.post("/api/dead-letters/l/retry")
        assert (answer.status_code, answer.json()["code"]) == (410, "PH114")

    async def test_one_is_retried_and_the_record_written_again(
        self, http: httpx.AsyncClient, scene: Scene, memory: MemoryBroker
    ) -> None:
        scene.letter("l0")
        answer = await http.post("/api/dead-letters/l0/retry")
        assert answer.status_code == 200
        shapes.SettledAnswer.model_validate(answer.json(), strict=True, extra="forbid")
        (copy,), (settled,) = memory.stored("thing"), memory.stored(DEAD_LETTER)
        headers = dict(copy.headers)
        assert (copy.key, copy.value, headers["ce_replayid"], headers["ce_forjob"]) == (
            b"k",
            b'{"n": 1}',
            b"l0",
            b"welcome",
        )
        assert dict(settled.headers)["ce_type"] == b"dead-letter.retried"
        with History(scene.store).snapshot() as now:
            letter = now.letter("l0")
        assert letter is not None
        assert answer.json()["result"] == {"id": "l0", "outcome": "retried", "runId": replay_run_id(letter)}

    async def test_settled_one_is_409(self, http: httpx.AsyncClient, scene: Scene, memory: MemoryBroker) -> None:
        scene.letter("l0")
        scene.settle("l0", "discarded")
        for verb in ("retry", "discard"):
            answer = await http.post(f"/api/dead-letters/l0/{verb}")
            assert (answer.status_code, answer.json()["code"]) == (409, "PH113")
        assert memory.stored("thing") == memory.stored(DEAD_LETTER) == []

    async def test_many_have_a_result_each(self, http: httpx.AsyncClient, scene: Scene, memory: MemoryBroker) -> None:
        scene.letter("l0")
        scene.letter("l1", event_id="f")
        answer = await http.post("/api/dead-letters/discard", json={"ids": ["l0", "x", "l1", "l0"]})
        assert answer.status_code == 207
        shapes.ManySettledAnswer.model_validate(answer.json(), strict=True)
        results = answer.json()["results"]
        assert [(one["id"], one["success"]) for one in results] == [("l0", True), ("x", False), ("l1", True)]
        assert (results[1]["code"], results[1]["status"]) == ("PH112", 404)
        assert len(memory.stored(DEAD_LETTER)) == 2
        done = await http.post("/api/dead-letters/retry", json={"ids": ["l0", "l1"]})
        assert done.status_code == 200
        assert len(memory.stored("thing")) == 2

    @pytest.mark.parametrize(
        "body",
        [
            [],
            {},
            {"ids": []},
            {"ids": "x"},
            {"ids": [1]},
            {"ids": ["x"], "all": True},
            {"ids": ["x"] * 2 + [str(n) for n in range(500)]},
        ],
    )
    async def test_body_that_is_none_is_422(self, http: httpx.AsyncClient, body: Any) -> None:
        for verb in ("retry", "discard"):
            answer = await http.post(f"/api/dead-letters/{verb}", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "PH607")


class TestLag:
    async def test_is_by_job_and_partition(self, http: httpx.AsyncClient, client: Client, memory: MemoryBroker) -> None:
        async def nothing(payload: Any, io: Any) -> None: ...

        job = client.define_job(
            id="j", name="J", version="1", trigger=event_trigger("thing.made"), run=nothing, start="earliest"
        )
        assert (await got(http, "/api/lag", shapes.LagAnswer))["items"] == []
        worker = Worker([job], memory)
        running = asyncio.create_task(worker.run())
        await wait_until(lambda: worker.ready, seconds=10)
        worker.stop()
        await running
        await client.send_all([outgoing("thing.made", {}, key="k") for _ in range(3)])
        (item,) = (await got(http, "/api/lag", shapes.LagAnswer))["items"]
        assert (item["job"], item["lag"], item["members"]) == ("j", 3, 0)
        assert sorted(one["lag"] for one in item["partitions"]) == [0, 0, 0, 3]
        assert (await got(http, "/api/lag", shapes.LagAnswer, job="k"))["items"] == []


class TestWithoutHistory:
    @pytest.mark.parametrize("given", ["none", "not there yet"])
    async def test_questions_are_503_and_the_rest_works(
        self, client: Client, memory: MemoryBroker, tmp_path: Path, given: str
    ) -> None:
        reading = None if given == "none" else Reading(f"sqlite:///{tmp_path}/none.db")
        app = create_app(client, broker_reached=reaches(memory), history=reading)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            for path in ("/api/events", "/api/runs", "/api/stats", "/api/dead-letters", "/api/runs/x"):
                answer = await http.get(path)
                assert (answer.status_code, answer.json()["code"]) == (503, "PH205")
                assert answer.json()["remedy"]
            assert (await http.post("/api/dead-letters/x/retry")).status_code == 503
            assert (await http.get("/api/lag")).status_code == 200
            assert (await http.post("/trigger", json={"event": "thing.made"})).status_code == 200
        assert _names(tmp_path) == []

    async def test_one_that_comes_later_is_found(self, client: Client, memory: MemoryBroker, tmp_path: Path) -> None:
        reading = Reading(f"sqlite:///{tmp_path}/history.db")
        app = create_app(client, broker_reached=reaches(memory), history=reading)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
            assert (await http.get("/api/events")).status_code == 503
            scene = Scene(HistoryStore(f"sqlite:///{tmp_path}/history.db"))
            scene.event("a")
            assert ids((await http.get("/api/events")).json()) == ["a"]
            scene.store.close()
            reading.close()


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
