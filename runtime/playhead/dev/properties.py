"""The broker's settings, and the property files that say them. Pure: values in, text out."""

from __future__ import annotations

from collections.abc import Mapping

HOST = "127.0.0.1"
"""The only address at which clients reach the broker."""
TEN_YEARS_MINUTES = 10 * 366 * 24 * 60
LOG_FILE_MB = 8
LOG_FILES_KEPT = 2

_COMMON: Mapping[str, object] = {
    "process.roles": "broker,controller",
    "node.id": 1,
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    # A typo in a topic's name must be an error, not a new topic.
    "auto.create.topics.enable": "false",
    # Events are kept for ever unless a topic says otherwise.
    "log.retention.ms": -1,
    # `playhead dev` may stop for weeks; a group's checkpoints must still be there.
    "offsets.retention.minutes": TEN_YEARS_MINUTES,
    "offsets.topic.num.partitions": 4,
    "offsets.topic.replication.factor": 1,
    "transaction.state.log.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    # One developer's worker is the whole group: nobody to wait for.
    "group.initial.rebalance.delay.ms": 0,
    # A dead worker's open transaction holds its readers back; look for it each second instead of each ten.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    # After a crash the node waits until its predecessor's session ends: 3 s instead of 9.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    # The default, 128 MiB, is allocated at start and would be a quarter of the heap.
    "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
}

_LOG4J2 = f"""\
status = error
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = file
appender.file.type = RollingFile
appender.file.name = file
appender.file.fileName = ${{sys:playhead.log}}
appender.file.filePattern = ${{sys:playhead.log}}.%i
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{{ISO8601}} %-5p %c{{1}} %m%n
appender.file.policies.type = Policies
appender.file.policies.size.type = SizeBasedTriggeringPolicy
appender.file.policies.size.size = {LOG_FILE_MB}MB
appender.file.strategy.type = DefaultRolloverStrategy
appender.file.strategy.max = {LOG_FILES_KEPT}
"""


def server_settings(
    *,
    log_dir: str,
    port: int,
    controller_port: int,
    bind_host: str = HOST,
    overrides: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The settings of a single node that clients reach at HOST:port; `overrides` win and may add settings."""
    return {
        **_COMMON,
        "listeners": f"PLAINTEXT://{bind_host}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "log.dirs": log_dir,
        **(overrides or {}),
    }


def as_properties(settings: Mapping[str, object]) -> str:
    """The text of a .properties file."""
    # java.util.Properties reads a backslash as the start of an escape.
    return "".join(f"{name}={str(value).replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())


def as_image_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """The same as variables of the apache/kafka image: node.id is KAFKA_NODE_ID."""
    return {"KAFKA_" + name.upper().replace(".", "_"): str(value) for name, value in settings.items()}


def log4j2_properties() -> str:
    """A bounded rolling file at ${sys:playhead.log}; nothing on the console."""
    return _LOG4J2
