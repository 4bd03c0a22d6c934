"""A real Chromium: Debian's (`apt-get install chromium`), the one that PLAYHEAD_CHROMIUM names, or playwright's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def found_chromium() -> str | None:
    """The program, where the system has one."""
    named = os.environ.get("PLAYHEAD_CHROMIUM")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser | str]:
    """A browser; or, as text, why there is none."""
    with sync_playwright() as playwright:
        try:
            browser = _launch(playwright)
        except Error as error:
            yield f"no Chromium: {error.message.splitlines()[0]} (apt-get install chromium)"
            return
        yield browser
        browser.close()


def _launch(playwright: Playwright) -> Browser:
    # No sandbox: tests run as root in containers, where Chromium has none.
    args = ["--no-sandbox", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
    return playwright.chromium.launch(executable_path=found_chromium(), args=args)
