"""The scheduler: the consumer of topic `delay`. It sends what has become due, answers requests, and arms schedules."""

from playhead.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
