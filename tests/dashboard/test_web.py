"""What every answer promises, without a browser."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy as sa

import playhead_schemas  # noqa: F401 -- the catalog that the pages show
from playhead import Client
from playhead.broker.memory import MemoryBroker
from playhead.config import Settings
from playhead.dashboard import Dashboard
from playhead.dashboard.web import ASSETS
from playhead.history.schema import PART
from playhead.history.store import HistoryStore
from playhead.http import create_app, reaches
from playhead.topics import entity_topic, system_topics
from tests.dashboard.scene import NOW_MS, Scene, names, shop
from tests.dashboard.site import StillClock, jobs
from tests.history.scene import History

TEMPLATES = ASSETS.parent / "templates"
QUERIES_MAX = 16
"""Of one page: each goes by an index or over sums. The chain asks two for each of its levels."""
SAME_SITE = {"sec-fetch-site": "same-origin"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> HistoryStore:
    return HistoryStore(f"sqlite:///{tmp_path_factory.mktemp('history')}/history.db")


@pytest.fixture(scope="module")
def scene(store: HistoryStore) -> Scene:
    return shop(store, 200)


@pytest.fixture
async def memory() -> AsyncIterator[MemoryBroker]:
    memory = MemoryBroker()
    await memory.start()
    await memory.create_topics([entity_topic(name) for name in ("test", "user")] + system_topics())
    yield memory
    await memory.stop()


@pytest.fixture
async def http(store: HistoryStore, scene: Scene, memory: MemoryBroker) -> AsyncIterator[httpx.AsyncClient]:
    client = Client("dashboard", settings=Settings(), broker=memory, clock=StillClock())
    dashboard = Dashboard(History(store), client, jobs=jobs(), clock=StillClock())
    app = create_app(client, broker_reached=reaches(memory), pages=dashboard.routes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        yield http
    await dashboard.close()
    await client.close()


class TestAnswers:
    async def test_api_stays_where_it_was(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        assert (await http.post("/trigger", json={"event": "test.event"})).status_code == 200
        assert (await http.get("/nothing/here")).status_code == 404
        assert (await http.get("/trigger")).status_code == 405
        paths = (await http.get("/openapi.json")).json()["paths"]
        assert "/trigger" in paths
        assert "/runs" not in paths

    async def test_every_page_has_the_headers(self, http: httpx.AsyncClient, scene: Scene) -> None:
        for _, path in names(scene):
            answer = await http.get(path)
            assert answer.headers["content-security-policy"].startswith("default-src 'self';"), path
            assert answer.headers["x-content-type-options"] == "nosniff", path
            assert answer.headers["cache-control"] == "no-store", path

    async def test_assets_are_kept_for_good_under_an_address_of_their_contents(self, http: httpx.AsyncClient) -> None:
        page = (await http.get("/")).text
        addresses = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page)
        assert len(addresses) == 5
        for address in addresses:
            answer = await http.get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]
            assert address.endswith(f"?v={hashlib.sha256(answer.content).hexdigest()[:12]}")

    @pytest.mark.parametrize(
        "path",
        [
            "/runs?cursor=%00",
            "/?range=1y",
            "/events?since=x",
            "/dead-letters?state=lost",
            "/runs?state=lost",
            "/dead-letters/retry",
        ],
    )
    async def test_nonsense_is_explained_on_a_page(self, http: httpx.AsyncClient, path: str) -> None:
        answer = await http.get(path)
        assert answer.status_code == 422
        assert "PH100" in answer.text

    async def test_history_that_does_not_answer_is_told(
        self, http: httpx.AsyncClient, store: HistoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(*_: object) -> None:
            raise sa.exc.OperationalError("select", {}, RuntimeError("disk is gone"))

        monkeypatch.setattr(store, "reading", fails)
        answer = await http.get("/runs")
        assert answer.status_code == 503
        assert "PH204" in answer.text

    async def test_partition_that_history_does_not_read_on_is_told(
        self, http: httpx.AsyncClient, store: HistoryStore
    ) -> None:
        def stop(why: str | None) -> None:
            with store.transaction() as db:
                db.execute(sa.update(PART).where(PART.c.topic == "user", PART.c.partition == 0).values(stopped=why))

        stop("retention took <offsets> 5 to 7 unread")
        try:
            assert (
                "History stands still in user[0]: retention took &lt;offsets&gt; 5 to 7" in (await http.get("/")).text
            )
        finally:
            stop(None)
        assert "stands still" not in (await http.get("/")).text

    async def test_page_asks_few_questions(self, http: httpx.AsyncClient, store: HistoryStore, scene: Scene) -> None:
        asked: list[str] = []

        @sa.event.listens_for(sa.Engine, "before_cursor_execute")
        def count(connection: object, cursor: object, statement: str, *_: object) -> None:
            asked.append(statement)

        try:
            for name, path in names(scene):
                asked.clear()
                await http.get(path)
                questions = [one for one in asked if one.startswith("SELECT")]
                assert len(questions) <= QUERIES_MAX, (name, questions)
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", count)


class TestOtherSites:
    """A page of another site can make a browser send a form here; nothing is done then."""

    FORM = {"event": "test.event", "mode": "raw", "raw": "{}", "do": "send"}

    @pytest.mark.parametrize(
        "headers",
        [
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"sec-fetch-site": "none"},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {},
        ],
    )
    async def test_are_refused(self, http: httpx.AsyncClient, memory: MemoryBroker, headers: dict[str, str]) -> None:
        answer = await http.post("/send", data=self.FORM, headers=headers)
        assert answer.status_code == 403
        assert "PH702" in answer.text
        assert memory.stored("test") == []

    @pytest.mark.parametrize("headers", [SAME_SITE, {"origin": "http://test"}])
    async def test_own_pages_are_not(
        self, http: httpx.AsyncClient, memory: MemoryBroker, headers: dict[str, str]
    ) -> None:
        answer = await http.post("/send", data=self.FORM, headers=headers)
        assert answer.status_code == 200
        assert len(memory.stored("test")) == 1

    @pytest.mark.parametrize("origin", ["http://[", "http://", "://", "test", "http://test/", "http://test.evil"])
    async def test_origin_that_is_none_is_refused(self, http: httpx.AsyncClient, origin: str) -> None:
        assert (await http.post("/send", data=self.FORM, headers={"origin": origin})).status_code == 403

    async def test_form_that_is_none_or_too_large_is_refused(self, http: httpx.AsyncClient) -> None:
        assert (await http.post("/send", json={}, headers=SAME_SITE)).status_code == 422
        large = await http.post("/send", data={"raw": "x" * 3_000_000}, headers=SAME_SITE)
        assert large.status_code == 422


class TestOddThings:
    """What anybody may have written, or asks for, gets a page."""

    @pytest.mark.parametrize(
        ("raw", "do", "status"),
        [
            ("[" * 100_000, "send", 422),
            ('{"a":' * 900 + "1" + "}" * 900, "send", 422),
            ('{"email": "\\ud800", "\\udfff": 1}', "form", 200),
            ('{"email": "\\ud800"}', "send", 422),
        ],
    )
    async def test_json_that_was_typed(self, http: httpx.AsyncClient, raw: str, do: str, status: int) -> None:
        form = {"event": "user.created", "mode": "raw", "do": do, "raw": raw}
        answer = await http.post("/send", data=form, headers=SAME_SITE)
        assert answer.status_code == status
        assert "<h" in answer.text

    @pytest.mark.parametrize("payload", [b'{"a": "\\ud800"}', b'{"a":' * 1_000 + b"1" + b"}" * 1_000, b"[" * 9_000])
    async def test_payload_of_an_event(
        self, http: httpx.AsyncClient, scene: Scene, request: pytest.FixtureRequest, payload: bytes
    ) -> None:
        id_ = scene.event(NOW_MS - 1_000, "user.created", payload, id_=f"odd {request.node.name[:60]}")
        scene.write()
        for path in (f"/events/{quote(id_)}", "/events", f"/send?event=user.created&like={quote(id_)}"):
            assert (await http.get(path)).status_code in (200, 422), path

    async def test_links_of_a_page_keep_an_id_with_signs_of_an_address(
        self, http: httpx.AsyncClient, scene: Scene
    ) -> None:
        event = scene.event(NOW_MS - 1_000, "user.created", {}, id_="odd")
        scene.run(NOW_MS - 900, "a?b#c%20d", event, "user.created")
        scene.write()
        answer = await http.get("/jobs/" + quote("a?b#c%20d", safe=""))
        assert answer.status_code == 200
        assert f'href="/jobs/{quote("a?b#c%20d")}?range=6h"' in answer.text

    async def test_event_that_was_sent_is_linked_by_its_id(self, http: httpx.AsyncClient) -> None:
        form = {"event": "test.event", "mode": "raw", "raw": "{}", "id": "a?b/#"}
        answer = await http.post("/send", data=form, headers=SAME_SITE)
        assert 'href="/events/a%3Fb%2F%23"' in answer.text


class TestFiles:
    def test_vendored_files_are_those_that_are_named(self) -> None:
        table = (ASSETS / "vendor" / "README.md").read_text()
        scripts = sorted(path.name for path in (ASSETS / "vendor").glob("*.js"))
        named = re.findall(r"^\| (\S+\.js) \|.*\| ([0-9a-f]{64}) \|$", table, re.MULTILINE)
        assert [name for name, _ in named] == scripts
        for name, digest in named:
            assert hashlib.sha256((ASSETS / "vendor" / name).read_bytes()).hexdigest() == digest

    @pytest.mark.parametrize("path", sorted(TEMPLATES.glob("*.html")), ids=lambda path: path.name)
    def test_nothing_is_inline_or_from_elsewhere(self, path: Path) -> None:
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|hx-on|javascript:|<script(?! src=\")", text)
        assert not re.search(r"(?:src|href|action)=\"(?:https?:)?//", text)
        assert "|safe" not in text.replace(" ", "")
