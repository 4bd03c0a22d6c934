"""The catalog on the wire: names, keys, and the payloads of the guide."""

from __future__ import annotations

import json
from typing import Any

import pytest

import playhead_schemas
from playhead import TypedEvent, outgoing
from playhead.errors import InvalidPayload
from playhead.events import catalog, entity_of
from playhead_schemas.document import DocumentShared
from playhead_schemas.email import EmailSent
from playhead_schemas.file import FileProcessed, FileUploaded
from playhead_schemas.payment import PaymentFailed, PaymentProcessed, PaymentSucceeded
from playhead_schemas.reminder import ReminderSend
from playhead_schemas.test import TestEvent
from playhead_schemas.user import UserCreated, UserUpdated

GUIDE: list[tuple[str, dict[str, Any]]] = [
    ("user.created", {"email": "user@example.com", "name": "John Doe", "userId": "123456"}),
    ("payment.processed", {"amount": 100, "currency": "USD"}),
    ("payment.processed", {"amount": 100, "currency": "USD", "customerId": "c-1"}),
    ("file.processed", {"fileId": "f-1", "processingResult": "success"}),
    ("reminder.send", {"userId": "123", "message": "Don't forget your appointment"}),
    ("test.event", {"message": "This is a test event"}),
]


@pytest.mark.parametrize(("name", "payload"), GUIDE)
def test_payloads_of_the_guide_are_taken_and_go_out_as_they_came(name: str, payload: dict[str, Any]) -> None:
    sent = outgoing(name, payload)
    assert json.loads(sent.value) == payload
    assert sent.schema == f"urn:playhead:{name}:1"


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (UserCreated(email="a@b.c", user_id="u-1"), "u-1"),
        (UserUpdated(user_id="u-1", name="Ada"), "u-1"),
        (PaymentProcessed(amount=1, currency="EUR", customer_id="c-1"), "c-1"),
        (PaymentSucceeded(amount=1, currency="EUR", customer_id="c-1"), "c-1"),
        (PaymentFailed(amount=1, currency="EUR", customer_id="c-1", reason="no funds"), "c-1"),
        (EmailSent(to="a@b.c", subject="Hi", template="welcome"), "a@b.c"),
        (DocumentShared(document_id="d-1", owner_id="u-1", shared_with=["u-2"]), "d-1"),
        (FileUploaded(file_id="f-1", filename="a.txt"), "f-1"),
        (FileProcessed(file_id="f-1", processing_result="success"), "f-1"),
        (ReminderSend(user_id="u-1", message="Tea"), "u-1"),
    ],
)
def test_key_keeps_what_belongs_together_in_order(event: TypedEvent, key: str) -> None:
    assert outgoing(event).key == key.encode()


def test_event_without_a_key_is_spread_by_its_id() -> None:
    for event in (TestEvent(message="x"), PaymentProcessed(amount=1, currency="EUR")):
        sent = outgoing(event)
        assert sent.key == sent.id.encode()


@pytest.mark.parametrize(
    ("name", "payload", "field"),
    [
        ("user.created", {"email": "ada", "userId": "1"}, "email"),
        ("user.created", {"email": "a@b.c", "userId": ""}, "userId"),
        ("user.created", {"email": "a@b.c"}, "userId"),
        ("payment.processed", {"amount": -1, "currency": "USD"}, "amount"),
        ("payment.processed", {"amount": float("inf"), "currency": "USD"}, "amount"),
        ("payment.processed", {"amount": 1, "currency": "usd"}, "currency"),
        ("file.processed", {"fileId": "f", "processingResult": "maybe"}, "processingResult"),
        ("document.shared", {"documentId": "d", "ownerId": "u", "sharedWith": []}, "sharedWith"),
    ],
)
def test_wrong_payload_names_the_field_as_on_the_wire(name: str, payload: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        outgoing(name, payload)
    assert [path for path, _ in refused.value.fields] == [field]


def test_every_entity_is_a_module_of_its_name() -> None:
    for name, model in catalog().items():
        if model.__module__.startswith("playhead_schemas."):
            assert model.__module__ == f"playhead_schemas.{entity_of(name)}"
            assert entity_of(name) in playhead_schemas.__all__


def test_every_event_says_what_happened() -> None:
    models = [model for model in catalog().values() if model.__module__.startswith("playhead_schemas.")]
    assert len(models) == 11
    assert all(model.__doc__ for model in models)
