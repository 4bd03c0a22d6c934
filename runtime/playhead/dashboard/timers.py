"""Pages of timers: what is to be sent later, and the jobs that run by the clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from playhead.client import Client
from playhead.dashboard.web import Answer, Ask, View, status_of
from playhead.errors import PlayheadError, TooLate
