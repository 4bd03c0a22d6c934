"""How long the server takes for each page, with many runs in the database.

    python tests/bench/pages.py 5000000 [sqlite:////path/history.db]

A database that is named is kept, and only filled where it is empty. Times are those of the server: query, render and
answer, through the whole application without a socket.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import httpx

import playhead_schemas  # noqa: F401 -- the catalog that the pages show
from playhead import Client
from playhead.broker.memory import MemoryBroker
from playhead.config import Settings
from playhead.dashboard import Dashboard
from playhead.history.store import HistoryStore
from playhead.http import create_app, reaches
from playhead.topics import entity_topic, system_topics
from tests.dashboard.scene import NOW_MS, Scene, names
from tests.dashboard.site import ENTITIES, StillClock, jobs
from tests.history.scene import History

TIMES = 30
"""Each page is asked so often; the first answer, which finds nothing in the caches, counts among them."""
RUNS_PER_EVENT = 1.68
"""Of the scene: sign-ups and uploads start two runs, payments one."""
MORE = (
    "/?range=7d",
    "/?range=30d",
    "/runs?state=failed",
    "/runs?job=receipt&state=failed",
    "/events?name=file",
    "/events?key=1234",
)


def fill(store: HistoryStore, runs: int) -> Scene:
    """Fill an empty database; of one that is not, say what the pages are to show."""
    scene = Scene(store)
    if store.positions():
        scene.find()
        return scene
    began = time.perf_counter()
    scene.day(int(runs / RUNS_PER_EVENT))
    scene.markup(NOW_MS - 55_000)
    scene.try_out(NOW_MS - 50_000, "first")
    scene.upload(NOW_MS - 40_000, 100_000_000)
    scene.write()
    print(f"filled with {runs:,} runs in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return scene


async def measure(store: HistoryStore, scene: Scene) -> list[tuple[str, float, float]]:
    """(page, p50 and longest in milliseconds) of each page."""
    memory = MemoryBroker()
    await memory.start()
    await memory.create_topics([entity_topic(name) for name in ENTITIES] + system_topics())
    client = Client("dashboard", settings=Settings(), broker=memory, clock=StillClock())
    dashboard = Dashboard(History(store), client, jobs=jobs(), clock=StillClock())
    app = create_app(client, broker_reached=reaches(memory), pages=dashboard.routes)
    rows = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bench") as http:
        for name, path in [*names(scene), *((path, path) for path in MORE)]:
            took = []
            for _ in range(TIMES):
                began = time.perf_counter()
                answer = await http.get(path)
                took.append((time.perf_counter() - began) * 1000)
                assert answer.status_code in (200, 404), (path, answer.text)
            rows.append((name, statistics.median(took), max(took)))
    await dashboard.close()
    await client.close()
    await memory.stop()
    return rows


def page_times(runs: int, url: str | None = None) -> list[tuple[str, float, float]]:
    """As `measure`, of a database with so many runs."""
    with tempfile.TemporaryDirectory(prefix="playhead-pages-") as folder:
        store = HistoryStore(url or f"sqlite:///{folder}/history.db")
        try:
            return asyncio.run(measure(store, fill(store, runs)))
        finally:
            store.close()


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    for page, p50, longest in page_times(wanted, sys.argv[2] if len(sys.argv) > 2 else None):
        print(f"{page:34} {p50:8.1f} ms p50 {longest:8.1f} ms max")
