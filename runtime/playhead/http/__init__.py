"""The HTTP API: events in, over POST; health, readiness and metrics out. Needs the extra `playhead[http]`."""

from playhead.http.app import create_app
from playhead.http.limits import Limits
from playhead.http.readiness import BrokerProbe, Readiness, WorkerState, reaches
from playhead.http.scrape import Scrape
from playhead.http.server import listen, serve, url_of

__all__ = [
    "BrokerProbe",
    "Limits",
    "Readiness",
    "Scrape",
    "WorkerState",
    "create_app",
    "listen",
    "reaches",
    "serve",
    "url_of",
]
