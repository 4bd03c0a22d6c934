"""One browser and one filled site for all tests of a module; a page of its own for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

import playhead_schemas  # noqa: F401 -- the catalog that the pages show
from tests.dashboard.chromium import chromium
from tests.dashboard.scene import Scene, shop
from tests.dashboard.site import Site


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Of one module: as long as it is there, an event loop runs in this thread, and no test can have one of its own."""
    with chromium() as found:
        if isinstance(found, str):
            pytest.skip(found)
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("history"))
    site.scene = shop(site.store)
    site.start()
    yield site
    site.stop()
    site.store.close()


@pytest.fixture(scope="module")
def scene(site: Site) -> Scene:
    return site.scene


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A page of the site; what its console complains about fails the test (a Content-Security-Policy does it there)."""
    context = browser.new_context(base_url=site.url, viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    yield page
    context.close()
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []
