"""The broker contract on Apache Kafka. The only place that imports aiokafka."""

from playhead.broker.kafka import closed_transport, repeated_logs, slow_connect, unpacking
from playhead.broker.kafka.broker import KafkaBroker
from playhead.broker.kafka.timings import GroupTimings

__all__ = ["GroupTimings", "KafkaBroker"]

closed_transport.install()
repeated_logs.install()
slow_connect.install()
unpacking.install()
