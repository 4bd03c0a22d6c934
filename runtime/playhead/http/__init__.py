"""The HTTP API: events in, over POST; health and readiness out. Needs the extra `playhead[http]`."""

from playhead.http.app import create_app
from playhead.http.limits import Limits
from playhead.http.readiness import BrokerProbe, Readiness, WorkerState, reaches
from playhead.http.server import listen, serve, url_of

__all__ = ["BrokerProbe", "Limits", "Readiness", "WorkerState", "create_app", "listen", "reaches", "serve", "url_of"]
