"""The engine: runs jobs on a broker, exactly once inside it."""

from playhead.engine.worker import Worker

__all__ = ["Worker"]
