"""The dashboard: what happened, for people. Needs the extra `playhead[http]`."""

from playhead.dashboard.app import Dashboard

__all__ = ["Dashboard"]
