"""The reference jobs, on the real engine and an in-memory broker."""

from __future__ import annotations

import pytest

from playhead.run import RunState
from playhead.testing import JobHarness
from playhead_consumers import (
    audit_log,
    crm_sync,
    index_file,
    mail,
    process_upload,
    receipt,
    reminder,
    try_out,
    welcome_email,
)
from playhead_schemas.file import FileUploaded
from playhead_schemas.payment import PaymentSucceeded
from playhead_schemas.reminder import ReminderSend
from playhead_schemas.test import TestEvent
from playhead_schemas.user import UserCreated

ADA = UserCreated(email="ada@example.com", name="Ada", user_id="7")


@pytest.fixture(autouse=True)
def services() -> None:
    """The services that stand for real ones are empty."""
    mail.outbox.clear()
    crm_sync.contacts.clear()


class TestUserCreated:
    async def test_is_broadcast_to_three_jobs(self) -> None:
        async with JobHarness(welcome_email.client, crm_sync.client, audit_log.client) as jobs:
            await jobs.send(ADA)
            runs = await jobs.runs()
        assert {run.job_id: run.state for run in runs} == {
            "welcome-email": RunState.SUCCEEDED,
            "crm-sync": RunState.SUCCEEDED,
            "audit-log": RunState.SUCCEEDED,
        }

    async def test_is_welcomed_once_per_run(self) -> None:
        async with JobHarness(welcome_email.client) as jobs:
            await jobs.send(ADA)
            run = await jobs.run_of("welcome-email")
            assert list(mail.outbox) == [run.run_id]
            assert mail.outbox[run.run_id].text == "Hello Ada, good to have you here."
            assert await jobs.payloads("email.sent") == [
                {"to": "ada@example.com", "subject": "Welcome!", "template": "welcome", "userId": "7"}
            ]

    async def test_is_in_the_crm(self) -> None:
        async with JobHarness(crm_sync.client) as jobs:
            await jobs.send(ADA)
        assert crm_sync.contacts == {"7": {"email": "ada@example.com", "name": "Ada"}}

    async def test_is_audited_without_personal_data(self) -> None:
        async with JobHarness(audit_log.client) as jobs:
            await jobs.send(ADA)
            run = await jobs.run_of("audit-log")
        assert run.output["userId"] == "7"
        assert "ada" not in str(run.output).lower()


class TestUploadChain:
    async def test_file_is_processed_then_indexed(self) -> None:
        async with JobHarness(process_upload.client, index_file.client) as jobs:
            uploaded = await jobs.send(FileUploaded(file_id="f-1", filename="a.txt", size_bytes=3, user_id="7"))
            await jobs.settle()
            (processed,) = await jobs.events("file.processed")
            assert (await jobs.run_of("process-upload")).output == {"success": True}
            assert (await jobs.run_of("index-file")).output == {"indexed": "f-1"}
        assert processed.payload() == {"fileId": "f-1", "processingResult": "success", "userId": "7"}
        assert processed.causation_id == processed.correlation_id == uploaded.id
        assert processed.depth == 1

    async def test_empty_file_is_a_failure_and_is_not_indexed(self) -> None:
        async with JobHarness(process_upload.client, index_file.client) as jobs:
            await jobs.send(FileUploaded(file_id="f-2", filename="b.txt", size_bytes=0))
            await jobs.settle()
            assert (await jobs.run_of("process-upload")).output == {"success": False}
            assert await jobs.runs("index-file") == []
            (payload,) = await jobs.payloads("file.processed")
        assert payload == {"fileId": "f-2", "processingResult": "failure", "reason": "empty"}


class TestMessages:
    async def test_payment_gets_a_receipt(self) -> None:
        async with JobHarness(receipt.client) as jobs:
            await jobs.send(PaymentSucceeded(amount=12.5, currency="EUR", customer_id="c-1", email="ada@example.com"))
            assert (await jobs.run_of("receipt")).output == {"sentTo": "ada@example.com", "total": "12.50 EUR"}

    async def test_payment_without_address_goes_to_the_customers(self) -> None:
        async with JobHarness(receipt.client) as jobs:
            await jobs.send(PaymentSucceeded(amount=1, currency="EUR", customer_id="c-1"))
            (sent,) = await jobs.payloads("email.sent")
        assert sent["to"] == "c-1@users.example"

    async def test_reminder_is_delivered(self) -> None:
        async with JobHarness(reminder.client) as jobs:
            await jobs.send(ReminderSend(user_id="7", message="Tea"))
            run = await jobs.run_of("reminder")
        assert mail.outbox[run.run_id].text == "Tea"

    async def test_message_is_delivered_once_per_key(self) -> None:
        message = mail.Message("a@b.c", "Hi", "Hello")
        assert await mail.deliver(message, idempotency_key="k")
        assert not await mail.deliver(message, idempotency_key="k")
        assert len(mail.outbox) == 1

    async def test_outbox_is_bounded(self) -> None:
        for number in range(mail.REMEMBERED_MESSAGES_MAX + 5):
            await mail.deliver(mail.Message("a@b.c", "Hi", ""), idempotency_key=str(number))
        assert len(mail.outbox) == mail.REMEMBERED_MESSAGES_MAX


class TestTryOut:
    async def test_succeeds(self) -> None:
        async with JobHarness(try_out.client) as jobs:
            await jobs.send(TestEvent(message="hello"))
            assert (await jobs.run_of("try-out")).output == {"message": "hello"}

    async def test_fails_when_the_payload_says_so(self) -> None:
        async with JobHarness(try_out.client) as jobs:
            await jobs.send(TestEvent(message="hello", fail=True))
            await jobs.advance(5)
            run = await jobs.run_of("try-out")
            assert len(await jobs.events("run.retrying")) == 2
            assert len(await jobs.events("dead-letter.created")) == 1
        assert run.state is RunState.FAILED
        assert run.error is not None
        assert run.error.message == 'the payload says "fail": true'

    async def test_fails_under_the_flag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PLAYHEAD_DEMO_FAIL", "1")
        async with JobHarness(try_out.client) as jobs:
            await jobs.send(TestEvent(message="hello"))
            await jobs.advance(5)
            assert (await jobs.run_of("try-out")).state is RunState.FAILED
