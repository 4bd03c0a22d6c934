"""Open pages follow what happens, and leave alone what a person is doing."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.dashboard.scene import NOW_MS, Scene
from tests.dashboard.site import Site


def mark(page: Page) -> None:
    """A page that is loaded again has lost this."""
    page.evaluate("window.stillTheSame = true")


def is_the_same(page: Page) -> bool:
    return bool(page.evaluate("window.stillTheSame === true"))


def open_live(page: Page, path: str) -> None:
    page.goto(path)
    expect(page.locator("#connection")).to_have_text("Live")
    mark(page)


class TestFollowing:
    def test_new_event_appears_without_a_reload(self, page: Page, scene: Scene) -> None:
        open_live(page, "/events?name=payment.failed")
        expect(page.locator(".empty")).to_be_visible()
        scene.event(NOW_MS - 20_000, "payment.failed", {"customerId": "7"}, key="seven")
        scene.write()
        expect(page.locator("tbody tr")).to_have_count(1)
        assert is_the_same(page)

    def test_page_of_what_is_not_there_yet_shows_it_when_it_is(self, page: Page, scene: Scene) -> None:
        open_live(page, "/events/soon")
        expect(page.locator("main")).to_contain_text("PH701")
        scene.event(NOW_MS - 20_000, "user.updated", {"userId": "9"}, key="nine", id_="soon")
        scene.write()
        expect(page.get_by_role("heading", level=1)).to_have_text("user.updated")
        assert is_the_same(page)

    def test_overview_counts_on(self, page: Page, scene: Scene) -> None:
        open_live(page, "/")
        value = page.locator(".tile .value").first
        before = int(value.inner_text().replace(",", ""))
        scene.sign_up(NOW_MS - 20_000, 5_000)
        scene.write()
        expect(value).to_have_text(f"{before + 2:,}")
        assert is_the_same(page)

    def test_focus_text_scroll_and_what_is_open_stay(self, page: Page, scene: Scene) -> None:
        open_live(page, "/events?range=24h")
        page.get_by_label("Key").fill("half a k")
        page.evaluate("window.scrollTo(0, 240)")
        first = page.locator("tbody tr").first.get_attribute("id")
        scene.event(NOW_MS - 10_000, "user.updated", {"userId": "8"}, key="eight")
        scene.write()
        expect(page.locator("tbody tr").first).not_to_have_id(first or "")
        expect(page.get_by_label("Key")).to_be_focused()
        expect(page.get_by_label("Key")).to_have_value("half a k")
        assert page.evaluate("window.scrollY") == 240
        assert is_the_same(page)

    def test_open_dialog_and_ticked_boxes_stay(self, page: Page, scene: Scene) -> None:
        open_live(page, "/dead-letters")
        rows = page.locator("tbody tr")
        before = rows.count()
        rows.nth(0).get_by_role("checkbox").check()
        ticked = rows.nth(0).get_attribute("id")
        page.get_by_role("link", name="Send event").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Event", exact=True).fill("half an ev")
        scene.try_out(NOW_MS - 30_000, "while open")
        scene.write()
        expect(rows).to_have_count(before + 1)
        expect(dialog.get_by_label("Event", exact=True)).to_have_value("half an ev")
        page.keyboard.press("Escape")
        expect(page.locator(f"[id='{ticked}'] input")).to_be_checked()
        expect(page.get_by_role("button", name="Retry selected (1)")).to_be_enabled()

    def test_open_table_of_a_chart_stays_open(self, page: Page, scene: Scene) -> None:
        open_live(page, "/")
        page.get_by_text("As a table").first.click()
        value = page.locator(".tile .value").first
        before = value.inner_text()
        scene.sign_up(NOW_MS - 15_000, 5_001)
        scene.write()
        expect(value).not_to_have_text(before)
        expect(page.locator("details.data").first).to_have_attribute("open", "")


class TestConnection:
    def test_lost_connection_is_shown_and_a_restarted_server_found(self, page: Page, site: Site, scene: Scene) -> None:
        open_live(page, "/events?name=document.shared")
        site.stop()
        try:
            expect(page.locator("#connection")).to_contain_text("Connection lost")
            scene.event(NOW_MS - 20_000, "document.shared", {"documentId": "d-1"}, key="d-1")
            scene.write()
        finally:
            site.start()
        expect(page.locator("#connection")).to_have_text("Live")
        expect(page.locator("tbody tr")).to_have_count(1)
        assert is_the_same(page)
