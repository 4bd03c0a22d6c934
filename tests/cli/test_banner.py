from __future__ import annotations

import json
import shlex

from playhead import Client, TypedEvent, event_trigger, outgoing
from playhead.cli.banner import curl, example_event, example_payload, ready_banner
from playhead.events import catalog
from playhead_consumers import audit_log, crm_sync, process_upload, try_out, welcome_email

CLIENTS = (audit_log, crm_sync, process_upload, try_out, welcome_email)
JOBS = [job for module in CLIENTS for job in module.client.jobs.values()]


def test_example_starts_the_most_jobs() -> None:
    name, payload = example_event(JOBS) or ("", {})
    assert name == "user.created"
    assert payload == {"email": "user@example.com", "name": "John Doe", "userId": "123456"}, "the guide's own"


def test_examples_of_the_whole_catalog_pass_their_schemas() -> None:
    models = [m for m in catalog().values() if m.__module__.startswith("playhead_schemas.")]
    assert len(models) >= 10
    for model in models:
        outgoing(model.__event__.name, example_payload(model))


def test_required_fields_without_example_get_something_of_their_type() -> None:
    class Parent(TypedEvent):
        order_id: str
        count: int
        paid: bool
        note: str | None = None

    assert example_payload(Parent) == {"orderId": "orderId", "count": 1, "paid": True}


def test_job_without_a_schema_gets_a_message() -> None:
    client = Client("test")
    job = client.define_job(id="j", name="", version="", trigger=event_trigger("a.b"), run=lambda payload, io: None)
    assert example_event([job]) == ("a.b", {"message": "hello"})
    assert example_event([]) is None


def test_curl_can_be_copied_into_a_shell() -> None:
    words = shlex.split(curl("http://127.0.0.1:3002", "a.b", {"it's": "quoted"}))
    assert words[:4] == ["curl", "-X", "POST", "http://127.0.0.1:3002/trigger"]
    assert json.loads(words[-1]) == {"event": "a.b", "payload": {"it's": "quoted"}}


def test_banner_says_where_and_what() -> None:
    text = ready_banner(url="http://127.0.0.1:3002", broker="Kafka at x", jobs=JOBS, seconds=2.34).plain
    assert "ready after 2.3 s" in text
    assert "5: audit-log, crm-sync, process-upload, try-out, welcome-email" in text
    assert "to start audit-log, crm-sync and welcome-email" in text
    assert "none run here" in ready_banner(url="", broker="", jobs=[], seconds=1).plain
