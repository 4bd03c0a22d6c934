"""The broker contract in memory: what unit tests and the simulator run on."""

from playhead.broker.memory.broker import MemoryBroker
from playhead.broker.memory.faults import CommitFault, Faults
from playhead.broker.memory.log import MemoryRecord
from playhead.broker.memory.membership import MemoryMembership

__all__ = ["CommitFault", "Faults", "MemoryBroker", "MemoryMembership", "MemoryRecord"]
