"""The pages in a real browser: what stands on them, and how one gets from one to the other."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.dashboard.scene import IMAGE, SCRIPT, Scene, names
from tests.dashboard.site import Site

PAGES = (
    *("overview", "overview-1h", "events", "event", "runs", "run", "run-failed", "jobs", "job", "timers"),
    *("dead-letters", "dead-letter", "catalog", "schema", "send", "send-raw", "missing"),
)


def address(scene: Scene, name: str) -> str:
    return dict(names(scene))[name]


class TestEveryPage:
    def test_all_are_tested(self, scene: Scene) -> None:
        assert [name for name, _ in names(scene)] == list(PAGES)

    @pytest.mark.parametrize("name", PAGES)
    def test_is_shown_with_its_parts(self, page: Page, scene: Scene, name: str) -> None:
        answer = page.goto(address(scene, name))
        assert answer is not None
        assert answer.status == (404 if name == "missing" else 200)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        expect(page.locator("main")).to_be_visible()
        assert page.title().endswith("· Playhead")
        expect(page.locator("#connection")).to_have_text("Live")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("name", PAGES)
    def test_axe_finds_nothing(self, browser: Browser, site: Site, scene: Scene, name: str, scheme: str) -> None:
        context = browser.new_context(base_url=site.url, color_scheme=scheme)
        # axe is put into the page by evaluating it, which the page's policy forbids to nobody but the page itself.
        page = context.new_page()
        page.goto(address(scene, name))
        expect(page.locator("#connection")).to_have_text("Live")
        found = Axe().run(page).response["violations"]
        context.close()
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in found] == []

    @pytest.mark.parametrize("name", PAGES)
    def test_is_no_wider_than_a_narrow_screen(self, page: Page, scene: Scene, name: str) -> None:
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(address(scene, name))
        assert page.evaluate("document.documentElement.scrollWidth") == 360


class TestGoingAround:
    def test_navigation_leads_to_each_list(self, page: Page) -> None:
        page.goto("/")
        for name in ("Events", "Runs", "Jobs", "Timers", "Dead letters", "Catalog", "Overview"):
            page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
            expect(page.get_by_role("heading", level=1)).to_have_text(name)
            expect(page.locator("nav a[aria-current=page]")).to_have_text(name)

    def test_from_an_event_to_its_run_and_along_the_chain(self, page: Page, scene: Scene) -> None:
        page.goto(address(scene, "event"))
        expect(page.get_by_role("heading", level=1)).to_have_text("file.uploaded")
        page.get_by_role("region", name="Runs it started").locator("a.mono").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("process-upload")
        expect(page.locator(".tree .node.here")).to_contain_text("process-upload")
        chain = page.get_by_role("region", name="Chain")
        for name in ("file.uploaded", "process-upload", "file.processed", "index-file"):
            expect(chain).to_contain_text(name)
        chain.get_by_role("link", name="index-file").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("index-file")

    def test_failed_run_shows_attempts_error_log_and_letter(self, page: Page, scene: Scene) -> None:
        page.goto(address(scene, "run-failed"))
        expect(page.get_by_role("region", name="Attempts", exact=True).locator("tbody tr")).to_have_count(4)
        expect(page.locator(".error .what")).to_have_text("playhead_consumers.try_out.FailedOnPurpose: asked to fail")
        expect(page.locator(".trace")).to_contain_text("Traceback (most recent call last)")
        expect(page.locator(".logs li").first).to_contain_text("about to fail message=second")
        page.get_by_role("region", name="Facts").locator("a[href^='/dead-letters/']").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Dead letter of try-out")
        expect(page.locator(".error p")).to_have_count(1)  # the reason says it already

    def test_value_without_the_field_that_it_is_of_is_told(self, page: Page) -> None:
        answer = page.goto("/events?equals=second")
        assert answer is not None
        assert answer.status == 422
        expect(page.locator("main")).to_contain_text("Name the field that it equals, too.")

    def test_filter_is_in_the_address_and_the_back_button_takes_it_away(self, page: Page) -> None:
        page.goto("/events")
        page.keyboard.press("/")
        expect(page.get_by_label("Name or entity")).to_be_focused()
        page.keyboard.type("test.event")
        page.keyboard.press("Enter")
        page.wait_for_url("**/events?*name=test.event*")
        assert set(page.locator("tbody tr td:first-child").all_inner_texts()) == {"test.event"}
        page.get_by_label("Payload field").fill("message")
        page.get_by_label("… equals").fill("second")
        page.get_by_role("button", name="Filter").click()
        page.wait_for_url("**equals=second*")
        expect(page.locator("tbody tr")).to_have_count(1)
        page.go_back()
        page.go_back()
        expect(page.locator("tbody tr")).to_have_count(50)

    def test_state_is_filtered_as_soon_as_it_is_chosen(self, page: Page) -> None:
        page.goto("/runs")
        page.get_by_label("State").select_option("failed")
        page.wait_for_url("**state=failed*")
        assert set(page.locator("tbody tr td:first-child").all_inner_texts()) == {"failed"}

    def test_pages_of_a_list_do_not_overlap(self, page: Page) -> None:
        page.goto("/runs")
        ids = "Array.from(document.querySelectorAll('tbody tr'), row => row.id)"
        first = page.evaluate(ids)
        page.get_by_role("link", name="Older").click()
        page.wait_for_url("**cursor=*")
        second = page.evaluate(ids)
        assert len(first) == len(second) == 50
        assert not set(first) & set(second)
        page.get_by_role("link", name="Newest").click()
        page.wait_for_url(lambda url: "cursor" not in url)
        assert page.evaluate(ids) == first
        page.go_back()
        assert page.evaluate(ids) == second

    def test_time_range_is_chosen(self, page: Page) -> None:
        page.goto("/")
        page.get_by_role("link", name="7d", exact=True).click()
        expect(page.locator(".head .sub")).to_have_text("the last 7 days")
        page.get_by_text("custom").click()
        page.get_by_label("From (UTC)").fill("2027-01-15T06:00")
        page.get_by_label("Until (UTC)").fill("2027-01-15T07:00")
        page.get_by_role("button", name="Show").click()
        expect(page.locator(".head .sub")).to_have_text("15 Jan 06:00 to 15 Jan 07:00 UTC")

    def test_what_a_bar_stands_for_is_said(self, page: Page) -> None:
        page.goto("/")
        chart = page.get_by_role("region", name="Runs", exact=True)
        chart.locator(".hit").nth(30).hover()
        expect(chart.locator(".readout")).to_contain_text("succeeded")
        chart.get_by_text("As a table").click()
        expect(chart.get_by_role("columnheader", name="succeeded")).to_be_visible()

    def test_colours_are_switched_and_stay(self, page: Page) -> None:
        page.emulate_media(color_scheme="light")
        page.goto("/")
        background = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(background)
        page.get_by_role("button", name="Dark colours").click()
        dark = page.evaluate(background)
        assert dark != light
        page.goto("/events")
        assert page.evaluate(background) == dark
        expect(page.get_by_role("button", name="Light colours")).to_be_visible()

    def test_keyboard_skips_to_the_content(self, page: Page) -> None:
        page.goto("/events")
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()


class TestMarkup:
    """What comes from payloads, errors, logs, keys and ids is text."""

    @pytest.mark.parametrize(
        ("path", "shown"),
        [
            ("/events?name=test.event", (SCRIPT, IMAGE)),
            ("/events/{markup_event}", (SCRIPT, IMAGE)),
            ("/runs?state=failed", (SCRIPT, IMAGE)),
            ("/runs/{markup_run}", (SCRIPT, IMAGE)),
            ("/jobs", (IMAGE,)),
            ("/jobs/{markup_job}", (SCRIPT, IMAGE)),
            ("/dead-letters", (SCRIPT, IMAGE)),
            ("/dead-letters/{markup_letter}", (SCRIPT, IMAGE)),
            ("/send?event=test.event&like={markup_event}", ()),
            ("/", (SCRIPT, IMAGE)),
            (f"/events?name={SCRIPT}{IMAGE}", ()),
            (f"/runs/{SCRIPT}", (SCRIPT,)),
        ],
    )
    def test_is_shown_as_text(self, page: Page, scene: Scene, path: str, shown: tuple[str, ...]) -> None:
        from urllib.parse import quote

        page.goto(path.format(**{name: quote(value, safe="") for name, value in scene.ids.items()}))
        expect(page.locator("#connection")).to_have_text("Live")
        text = page.evaluate("document.body.textContent")
        for markup in shown:
            assert markup in text or markup.replace('"', '\\"') in text
        assert page.title().endswith("· Playhead")
        assert page.locator("img").count() == 0
        assert page.evaluate("Array.from(document.scripts, one => one.src).every(src => src.includes('/assets/'))")
