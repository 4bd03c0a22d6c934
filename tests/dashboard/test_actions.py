"""What can be done from the pages: each asks first, says what came of it, and works by keyboard."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

from playhead.events import Event
from tests.dashboard.scene import NOW_MS, Scene
from tests.dashboard.site import Site


def sent(site: Site, topic: str) -> list[Event]:
    return [Event(record, dict(record.headers)) for record in site.broker.stored(topic)]


def settled(site: Site, letter_id: str) -> list[str]:
    """What was told of a dead letter."""
    return [event.name for event in sent(site, "dead-letter") if event.payload().get("letterId") == letter_id]


class TestSending:
    def test_form_of_the_schema_is_filled_and_sent(self, page: Page, site: Site) -> None:
        page.goto("/catalog")
        page.get_by_role("link", name="Send document.shared").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_label("documentId")).to_be_focused()
        page.keyboard.type("d-7")
        dialog.get_by_label("ownerId").fill("o-1")
        for user in ("u-1", "u-2", "u-3"):
            dialog.get_by_role("button", name="Add to sharedWith").click()
            page.keyboard.type(user)
        dialog.get_by_role("button", name="Remove").nth(1).click()
        dialog.get_by_label("permission").select_option("edit")
        dialog.get_by_role("button", name="Send", exact=True).click()
        expect(dialog.get_by_role("heading")).to_have_text("Sent document.shared")
        (event,) = sent(site, "document")
        assert event.payload() == {
            "documentId": "d-7",
            "ownerId": "o-1",
            "sharedWith": ["u-1", "u-3"],
            "permission": "edit",
        }
        expect(dialog).to_contain_text(dict(event.record.headers)["ce_id"].decode())
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        expect(page.get_by_role("link", name="Send document.shared")).to_be_focused()

    def test_what_is_wrong_stands_beside_its_field(self, page: Page, site: Site) -> None:
        before = len(sent(site, "payment"))
        page.goto("/send?event=payment.succeeded")
        page.get_by_label("amount").fill("much")
        page.get_by_label("currency").fill("euro")
        page.get_by_label("customerId").fill("7")
        page.keyboard.press("Enter")
        expect(page.locator("#f-p-amount-wrong")).to_have_text("it is not a number")
        page.get_by_label("amount").fill("12.5")
        page.keyboard.press("Enter")
        expect(page.locator("#f-p-currency-wrong")).to_contain_text("should match pattern")
        expect(page.get_by_label("currency")).to_be_focused()
        expect(page.get_by_label("currency")).to_have_attribute("aria-invalid", "true")
        expect(page.get_by_label("customerId")).to_have_value("7")
        assert len(sent(site, "payment")) == before
        page.get_by_label("currency").fill("EUR")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Sent payment.succeeded")).to_be_visible()
        assert sent(site, "payment")[-1].payload() == {"amount": 12.5, "currency": "EUR", "customerId": "7"}

    def test_what_is_wrong_is_focused_on_a_page_of_its_own_too(self, page: Page) -> None:
        page.goto("/send?event=payment.succeeded")
        page.get_by_label("amount").fill("12.5")
        page.get_by_label("currency").fill("euro")
        page.get_by_label("customerId").fill("7")
        # As before htmx has seen the form: the browser sends it.
        page.locator(".sheet form").evaluate(
            """form => {
                form.insertAdjacentHTML("beforeend", "<input type=hidden name=do value=send>");
                form.submit();
            }"""
        )
        expect(page.locator("#f-p-currency-wrong")).to_contain_text("should match pattern")
        expect(page.get_by_label("currency")).to_be_focused()

    def test_json_is_sent_and_refused(self, page: Page, site: Site) -> None:
        page.goto("/")
        page.get_by_role("link", name="Send event").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Event", exact=True).fill("thing.made")
        dialog.get_by_label("Payload").fill("{oops")
        dialog.get_by_role("button", name="Send", exact=True).click()
        expect(dialog.locator("#raw-wrong")).to_contain_text("it is not JSON")
        dialog.get_by_label("Event", exact=True).fill("test.other")
        dialog.get_by_label("Payload").fill('{"deep": {"list": [1, null]}}')
        dialog.get_by_role("button", name="Send", exact=True).click()
        expect(dialog.get_by_role("heading")).to_have_text("Sent test.other")
        assert sent(site, "test")[-1].payload() == {"deep": {"list": [1, None]}}

    def test_form_and_json_say_the_same(self, page: Page) -> None:
        page.goto("/send?event=test.event")
        page.get_by_label("message").fill("hello")
        page.get_by_label("fail").select_option("true")
        page.get_by_role("button", name="Write JSON instead").click()
        expect(page.get_by_label("Payload")).to_have_value('{\n  "message": "hello",\n  "fail": true\n}')
        page.get_by_role("button", name="Fill in the form instead").click()
        expect(page.get_by_label("message")).to_have_value("hello")
        expect(page.get_by_label("fail")).to_have_value("true")

    def test_name_of_an_event_brings_its_form(self, page: Page) -> None:
        page.goto("/")
        page.get_by_role("link", name="Send event").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Event", exact=True).fill("user.created")
        page.keyboard.press("Tab")
        expect(dialog.get_by_label("email")).to_be_visible()

    def test_unknown_topic_is_explained(self, page: Page) -> None:
        page.goto("/send")
        page.get_by_label("Event", exact=True).fill("nowhere.to")
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("nowhere")

    def test_one_like_it_is_filled_in(self, page: Page, scene: Scene) -> None:
        page.goto(f"/events/{scene.ids['chain_event']}")
        page.get_by_role("link", name="Send one like it").click()
        expect(page.get_by_role("dialog").get_by_label("filename")).to_have_value("report-100000.pdf")


class TestDeadLetters:
    def test_one_is_retried_after_a_question(self, page: Page, site: Site, scene: Scene) -> None:
        letter = scene.ids["tried_letter"]
        page.goto(f"/dead-letters/{letter}")
        page.get_by_role("link", name="Retry").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("Retry 1 dead letter?")
        expect(dialog).to_contain_text(
            "try-out: attempt 4 of 4 failed: playhead_consumers.try_out.FailedOnPurpose: asked to fail"
        )
        dialog.get_by_role("link", name="Leave it").click()
        assert settled(site, letter) == []
        page.get_by_role("link", name="Retry").click()
        dialog.get_by_role("button", name="Retry").click()
        expect(dialog).to_contain_text("1 dead letter is retried.")
        assert settled(site, letter) == ["dead-letter.retried"]
        (again,) = [event for event in sent(site, "test") if event.id == scene.ids["tried_event"]]
        assert again.payload() == {"message": "hello"}

    def test_many_are_discarded(self, page: Page, site: Site) -> None:
        page.goto("/dead-letters?job=try-out")
        rows = page.locator("tbody tr")
        page.get_by_label("Select all on this page").check()
        ids = [re.sub("^letter-", "", str(rows.nth(n).get_attribute("id"))) for n in range(rows.count())]
        page.get_by_role("button", name=f"Discard selected ({len(ids)})").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text(f"Discard {len(ids)} dead letters?")
        dialog.get_by_role("button", name="Discard").click()
        expect(dialog).to_contain_text(f"{len(ids)} dead letters are discarded.")
        assert [settled(site, letter)[-1] for letter in ids] == ["dead-letter.discarded"] * len(ids)

    def test_refusal_is_told(self, page: Page) -> None:
        page.goto("/dead-letters/discard?id=gone")
        page.get_by_role("button", name="Discard").click()
        expect(page.get_by_role("status").filter(has_text="gone")).to_be_visible()


class TestTimers:
    def test_pending_timer_is_canceled_after_a_question(self, page: Page, site: Site) -> None:
        async def send() -> Any:
            return await site.client.send_event("test.event", {"message": "later"}, delay={"hours": 5})

        timer_id = site.do(send()).id
        page.goto("/timers")
        row = page.locator(f"#timer-{timer_id}")
        expect(row).to_contain_text("in 5 h")
        row.get_by_role("link", name="Cancel").click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("It will never be.")
        dialog.get_by_role("button", name="Cancel the timer").click()
        expect(dialog).to_contain_text("It is never sent.")
        page.keyboard.press("Escape")
        page.reload()
        expect(row).to_have_count(0)

    def test_timer_that_is_gone_is_told(self, page: Page) -> None:
        page.goto("/timers/none/cancel")
        expect(page.locator("main")).to_contain_text("is not pending")


class TestWithoutScripts:
    def test_letter_is_retried_and_event_sent(self, site: Site, scene: Scene, browser: Any) -> None:
        context = browser.new_context(base_url=site.url, java_script_enabled=False)
        page = context.new_page()
        letter = scene.letter(NOW_MS - 5_000, "try-out", "", "e-1", "test.event", 0, {"type": "T", "message": "m"})
        scene.write()
        page.goto(f"/dead-letters/{letter}")
        page.get_by_role("link", name="Retry").click()
        page.get_by_role("button", name="Retry").click()
        expect(page.locator("main")).to_contain_text("1 dead letter is retried.")
        page.goto("/send?event=test.event")
        page.get_by_label("message").fill("no script")
        page.get_by_role("button", name="Send", exact=True).last.click()
        expect(page.locator("main")).to_contain_text("Sent test.event")
        context.close()
