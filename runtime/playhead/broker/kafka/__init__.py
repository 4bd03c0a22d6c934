"""The broker contract on Apache Kafka. The only place that imports aiokafka."""

from playhead.broker.kafka import closed_transport, redialing, repeated_logs, slow_connect, unpacking
from playhead.broker.kafka.broker import KafkaBroker
from playhead.broker.kafka.timings import GroupTimings

__all__ = ["GroupTimings", "KafkaBroker"]

closed_transport.install()
repeated_logs.install()
slow_connect.install()
redialing.install()  # after slow_connect: what it changes has the bound
unpacking.install()
