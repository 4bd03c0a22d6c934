"""A real Kafka in a folder: starts, stops, survives restarts and ends with its owner."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from playhead.dev import ports
from playhead.dev.find import RunningBroker
from playhead.dev.java import find_java
from playhead.dev.local_broker import LocalKafka
from playhead.dev.properties import HOST
from playhead.errors import AlreadyRunning, NoBroker, PortInUse
from tests.broker_fixture import NewLocalKafka
from tests.dev.processes import processes_of_group
from tests.waiting import block_until

pytestmark = pytest.mark.kafka


def test_the_sessions_broker_answers(broker: RunningBroker) -> None:
    host, _, port = broker.bootstrap_servers.split(",")[0].rpartition(":")
    assert ports.speaks_kafka(host, int(port))


def topics(broker: LocalKafka, *options: str) -> list[str]:
    """What Kafka's own tool says to these options; also shows that other clients than ours can talk to it."""
    command = [str(broker.java.path), "-XX:TieredStopAtLevel=1", "-cp", f"{broker.libs}/*"]
    command += ["org.apache.kafka.tools.TopicCommand", "--bootstrap-server", broker.bootstrap_servers, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_restart_keeps_port_cluster_and_data(own_broker: NewLocalKafka) -> None:
    broker = own_broker()
    port = broker.port
    topics(broker, "--create", "--topic", "user")
    cluster = (broker.data_dir / "data" / "meta.properties").read_text()
    group_id = broker.group_id
    assert group_id is not None
    broker.stop()
    assert processes_of_group(group_id) == []
    assert not broker.is_running()
    broker.start()
    assert broker.port == port
    assert (broker.data_dir / "data" / "meta.properties").read_text() == cluster
    broker.kill()
    assert not ports.speaks_kafka(HOST, port)
    broker.start()
    assert topics(broker, "--list") == ["user"]


def test_it_listens_on_loopback_only_and_logs_into_its_folder(own_broker: NewLocalKafka) -> None:
    broker = own_broker()
    with socket.socket() as elsewhere:
        # Another loopback address stands for any other interface of this machine.
        assert elsewhere.connect_ex(("127.0.0.2", broker.port)) != 0
    assert "Kafka Server started" in broker.log_file.read_text()
    assert "INFO" not in broker.folder.console.read_text()


def test_a_second_broker_in_the_same_folder_is_refused(
    own_broker: NewLocalKafka, new_local_kafka: NewLocalKafka
) -> None:
    first = own_broker()
    with pytest.raises(AlreadyRunning) as refused:
        new_local_kafka(first.data_dir).start()
    assert first.bootstrap_servers in str(refused.value)
    assert "stop process" in refused.value.remedy
    assert first.is_running()


def test_a_busy_port_is_named(own_broker: NewLocalKafka, new_local_kafka: NewLocalKafka, tmp_path: Path) -> None:
    with socket.create_server((HOST, ports.pick_free())) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"{HOST}:{port}") as refused:
            new_local_kafka(tmp_path / "second", port=port).start()
    assert "PLAYHEAD_KAFKA_PORT" in refused.value.remedy
    assert "PLAYHEAD_BOOTSTRAP_SERVERS" not in refused.value.remedy


def test_a_port_with_a_kafka_behind_it_is_recognised(
    own_broker: NewLocalKafka, new_local_kafka: NewLocalKafka, tmp_path: Path
) -> None:
    first = own_broker()
    with pytest.raises(PortInUse) as refused:
        new_local_kafka(tmp_path / "second", port=first.port).start()
    assert f"PLAYHEAD_BOOTSTRAP_SERVERS={first.bootstrap_servers}" in refused.value.remedy


def test_a_picked_port_that_is_taken_meanwhile_is_picked_anew(
    new_local_kafka: NewLocalKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pick = ports.pick_free
    broker = new_local_kafka(tmp_path / "kafka")
    with socket.create_server((HOST, pick())) as other:
        taken = other.getsockname()[1]
        answers = iter([taken])
        monkeypatch.setattr(ports, "pick_free", lambda **options: next(answers, None) or pick(**options))
        broker.start()
        assert broker.port != taken
        broker.stop()


def test_a_broker_that_dies_at_start_says_why(new_local_kafka: NewLocalKafka, tmp_path: Path) -> None:
    broker = new_local_kafka(tmp_path / "kafka")
    meta = broker.data_dir / "data" / "meta.properties"
    meta.parent.mkdir(parents=True)
    meta.write_text("version=1\nnode.id=2\ncluster.id=5L6g3nShT-eMCtK--X86sw\n")
    with pytest.raises(NoBroker, match=r"(?i)node.?id.*2") as died:
        broker.start()
    assert str(broker.log_file) in died.value.remedy
    assert not broker.is_running()
    assert not broker.folder.is_in_use()
    broker.stop()


def test_stop_from_another_thread_ends_a_start(new_local_kafka: NewLocalKafka, tmp_path: Path) -> None:
    broker = new_local_kafka(tmp_path / "kafka")
    faults: list[BaseException] = []

    def start() -> None:
        try:
            broker.start()
        except NoBroker as error:
            faults.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    block_until(lambda: broker.group_id is not None)
    broker.stop()
    thread.join(30)
    assert len(faults) == 1
    assert not broker.folder.is_in_use()


PARENT = """
import sys
from pathlib import Path
from playhead.dev.java import Java
from playhead.dev.local_broker import LocalKafka
folder, java, libs = map(Path, sys.argv[1:])
broker = LocalKafka(folder, Java(java, 17, "", "test"), libs)
broker.start()
print(broker.port, broker.group_id, flush=True)
sys.stdin.read()
"""


def test_the_broker_ends_when_its_parent_is_killed(new_local_kafka: NewLocalKafka, tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    mine = new_local_kafka(folder)
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(folder), str(find_java().path), str(mine.libs)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        port, group_id = map(int, parent.stdout.readline().split())
        assert ports.speaks_kafka(HOST, port)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    # A successor need not know that its predecessor is still on its way out.
    mine.start()
    assert processes_of_group(group_id) == []
    mine.stop()
    assert not mine.folder.is_in_use()


def test_a_later_start_takes_less_than_four_seconds(own_broker: NewLocalKafka) -> None:
    broker = own_broker()
    broker.stop()
    broker.start(timeout_seconds=4)


def test_formatting_that_fails_says_why(new_local_kafka: NewLocalKafka, tmp_path: Path) -> None:
    broker = new_local_kafka(tmp_path / "kafka", properties={"node.id": "none"})
    with pytest.raises(NoBroker, match="Invalid value none"):
        broker.start()


def test_a_java_that_can_not_be_run_says_so(new_local_kafka: NewLocalKafka, tmp_path: Path) -> None:
    good = new_local_kafka(tmp_path / "kafka")
    (tmp_path / "no-java").write_text("")
    java = type(good.java)(tmp_path / "no-java", 17, "", "test")
    with pytest.raises(NoBroker, match="could not be formatted"):
        LocalKafka(tmp_path / "kafka", java, good.libs).start()
