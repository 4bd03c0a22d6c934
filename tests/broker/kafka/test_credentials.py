"""A broker that asks who is there: every connection presents its credentials, and what they lack is `NotAuthorized`."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient  # noqa: TID251 -- the contract has no word for granting
from aiokafka.protocol.admin import (  # noqa: TID251 -- the contract has no word for granting
    CreateAclsRequest,
    DescribeAclsRequest,
)

from playhead.broker.contract import Appended, Committed, Mark, Partition, Refused
from playhead.broker.kafka import GroupTimings, KafkaBroker
from playhead.broker.kafka.link import client_options
from playhead.config import Settings
from playhead.dev import ports
from playhead.errors import NotAuthorized
from playhead.topics import MAX_MESSAGE_BYTES, TopicSpec
from tests.broker.provider import Member, Owner, append, new_topic, record, unique
from tests.broker_fixture import NewLocalKafka
from tests.waiting import wait_until

pytestmark = pytest.mark.kafka

PASSWORDS = {"admin": "admin-secret", "alice": "alice-secret"}
LITERAL, ALLOW = 3, 3
TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
"""Resource types of an ACL."""
READ, WRITE, DESCRIBE = 3, 4, 8
"""Operations of an ACL."""


@pytest.fixture(scope="module")
def secured(new_local_kafka: NewLocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Settings]]:
    """Settings of each user for a broker that wants passwords, over TLS where openssl can make a certificate."""
    folder = tmp_path_factory.mktemp("secured")
    port = ports.pick_free()
    clients, controller = ports.pick_free(besides=port), ports.pick_free(besides=port)
    protocol = "SASL_SSL" if shutil.which("openssl") else "SASL_PLAINTEXT"
    users = " ".join(f'user_{name}="{password}"' for name, password in PASSWORDS.items())
    properties: dict[str, object] = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CLIENTS://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},CLIENTS://127.0.0.1:{clients}",
        "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:{protocol}",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:admin",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.clients.plain.sasl.jaas.config": (
            f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
        ),
    }
    if protocol == "SASL_SSL":
        properties |= {
            "listener.name.clients.ssl.keystore.type": "PEM",
            "listener.name.clients.ssl.keystore.location": str(certificate(folder)),
        }
    kafka = new_local_kafka(folder / "kafka", port=port, properties=properties)
    kafka.start()
    try:
        yield {
            name: Settings(
                bootstrap_servers=f"127.0.0.1:{clients}",
                security_protocol=protocol,
                sasl_username=name,
                sasl_password=password,
                ssl_cafile=str(folder / "certificate.pem") if protocol == "SASL_SSL" else None,
            )
            for name, password in PASSWORDS.items()
        }
    finally:
        kafka.stop()


def certificate(folder: Path) -> Path:
    """A self-signed one for 127.0.0.1, with its key, as Kafka wants them; the certificate alone in certificate.pem."""
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")],
        check=True,
        capture_output=True,
    )
    store = folder / "store.pem"
    store.write_text((folder / "key.pem").read_text() + (folder / "certificate.pem").read_text())
    return store


@pytest.fixture
async def admin(secured: dict[str, Settings]) -> AsyncIterator[KafkaBroker]:
    """A client that may do everything."""
    broker = KafkaBroker(secured["admin"], group_timings=GroupTimings(heartbeat_ms=300))
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def alice(secured: dict[str, Settings]) -> AsyncIterator[KafkaBroker]:
    """A client that may do what she was granted."""
    broker = KafkaBroker(secured["alice"])
    await broker.start()
    yield broker
    await broker.stop()


async def grant(secured: dict[str, Settings], *granted: tuple[int, str, int]) -> None:
    """Let alice do operations on resources, (resource type, name, operation), and wait until the broker does."""
    client: Any = AIOKafkaClient(**client_options(secured["admin"]))
    await client.bootstrap()
    try:
        for kind, name, operation in granted:
            rule = (kind, name, LITERAL, "User:alice", "*", operation, ALLOW)
            answer = await client.send(client.get_random_node(), CreateAclsRequest(*rule))
            assert [code for code, _ in answer.creation_responses] == [0]

            async def applies(rule: tuple[Any, ...] = rule) -> bool:
                found = await client.send(client.get_random_node(), DescribeAclsRequest(*rule))
                return bool(found.resources)

            await wait_until(applies)
    finally:
        await client.close()


class TestPresentingCredentials:
    """Shared client, members' consumers and the pulse: all of them."""

    async def test_wrong_password_is_told_at_start(self, secured: dict[str, Settings]) -> None:
        broker = KafkaBroker(secured["admin"].model_copy(update={"sasl_password": "wrong"}))
        with pytest.raises(NotAuthorized, match="refuses the credentials"):
            await broker.start()

    async def test_member_commits_and_its_heartbeats_outlast_a_blocked_loop(self, admin: KafkaBroker) -> None:
        topic, owner = await new_topic(admin, 1), Owner()
        partition = Partition(topic, 0)
        await append(admin, record(topic, 0, "a"))
        member = Member(unique("group"), (topic,), await admin.join(unique("group"), [topic], owner), owner)
        await wait_until(lambda: owner.epoch is not None)
        commit = member.commit_of({partition: 1}, [record(topic, 0, "b")])
        assert await member.membership.commit(commit) == Committed()
        assert await member.membership.checkpoints([partition]) == {partition: Mark(1)}
        blocked_at = time.monotonic()
        time.sleep(2.0)  # noqa: ASYNC251 -- the blocking itself is under test: only the pulse's connection is left
        assert member.membership.last_heartbeat > blocked_at + 0.3


class TestLackingPermissions:
    """What is not granted is told as such, where it is asked for."""

    async def test_topic_that_may_not_be_described(self, admin: KafkaBroker, alice: KafkaBroker) -> None:
        topic = await new_topic(admin, 1)
        with pytest.raises(NotAuthorized):
            await alice.topic(topic)
        (result,) = await alice.append([record(topic, 0, "a")])
        assert isinstance(result, NotAuthorized)

    async def test_topic_that_may_be_described_but_not_written(
        self, admin: KafkaBroker, alice: KafkaBroker, secured: dict[str, Settings]
    ) -> None:
        topic, other = await new_topic(admin, 1, max_message_bytes="5000"), await new_topic(admin, 1)
        await grant(secured, (TOPIC, topic, DESCRIBE), (TOPIC, other, WRITE))
        info = await alice.topic(topic)
        assert (info.partitions, info.max_message_bytes, info.config) == (1, MAX_MESSAGE_BYTES, {})
        results = await alice.append([record(topic, 0, "a"), record(other, 0, "b")])
        assert isinstance(results[0], NotAuthorized)
        assert isinstance(results[1], Appended)

    async def test_group_that_may_not_be_joined(
        self, admin: KafkaBroker, alice: KafkaBroker, secured: dict[str, Settings]
    ) -> None:
        topic = await new_topic(admin, 1)
        await grant(secured, (TOPIC, topic, READ))
        with pytest.raises(NotAuthorized, match="coordinator"):
            await alice.join(unique("group"), [topic], Owner())

    async def test_transactional_ids_that_may_not_be_used(
        self, admin: KafkaBroker, alice: KafkaBroker, secured: dict[str, Settings]
    ) -> None:
        topic, group = await new_topic(admin, 1), unique("group")
        await grant(secured, (TOPIC, topic, READ), (GROUP, group, READ))
        with pytest.raises(NotAuthorized, match=group):
            await alice.join(group, [topic], Owner())

    async def test_records_that_a_member_may_not_write_are_refused(
        self, admin: KafkaBroker, alice: KafkaBroker, secured: dict[str, Settings], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        topic, other, group = await new_topic(admin, 1), await new_topic(admin, 1), unique("group")
        monkeypatch.setattr("playhead.broker.kafka.broker.new_writer_name", lambda: "w")
        ids = [(TRANSACTIONAL_ID, f"playhead.{group}.w.{n}", WRITE) for n in (0, 1)]
        await grant(
            secured, (TOPIC, topic, READ), (TOPIC, topic, WRITE), (TOPIC, other, DESCRIBE), *ids, (GROUP, group, READ)
        )
        owner = Owner()
        member = Member(group, (topic,), await alice.join(group, [topic], owner), owner)
        await wait_until(lambda: owner.epoch is not None)
        records = [record(topic, 0, "a"), record(other, 0, "b"), record(other, 0, "c")]
        outcome = await member.membership.commit(member.commit_of({Partition(topic, 0): 1}, records))
        assert isinstance(outcome, Refused)
        assert outcome.suspects == (1, 2)
        commit = member.commit_of({Partition(topic, 0): 1}, records[:1])
        assert await member.membership.commit(commit) == Committed()

    async def test_topics_that_may_not_be_created(self, alice: KafkaBroker) -> None:
        with pytest.raises(NotAuthorized):
            await alice.create_topics([TopicSpec(unique("topic"), 1)])

    async def test_list_has_only_what_may_be_described(
        self, admin: KafkaBroker, alice: KafkaBroker, secured: dict[str, Settings]
    ) -> None:
        hidden, shown = await new_topic(admin, 1), await new_topic(admin, 1)
        await grant(secured, (TOPIC, shown, DESCRIBE))
        names = {info.name for info in await alice.topics()}
        assert shown in names
        assert hidden not in names
