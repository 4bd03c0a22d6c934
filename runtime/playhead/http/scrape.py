"""GET /metrics: what the parts of this process count, in Prometheus' text format.

    scrape ──▶ look (the broker is asked, seldom) ──▶ sources ──▶ families by the table ──▶ text

A scrape shows what is known even while the broker is away. Nothing here is global: the registry is the endpoint's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate
from time import monotonic
from typing import TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from playhead.errors import PlayheadError
from playhead.http.limits import DEFAULT_LIMITS
from playhead.http.readiness import BrokerProbe, WorkerState
from playhead.metrics import BROKER_UP, BUILD, METRICS, READY, Histogram, Metric, Sample, Samples, Source

LOOK_AGAIN_SECONDS = 15.0
"""How seldom the broker is asked, however often somebody scrapes."""

Look: TypeAlias = Callable[[], Awaitable[None]]


class Collected(Collector):
    """Gives what the sources tell as families of the table, in its order."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Family]:
        """See `Collector`. Two sources that tell of the same metric and labels are added up."""
        found: dict[str, dict[tuple[str, ...], float | Histogram]] = {}
        for source in self._sources:
            for sample in source():
                _add(found.setdefault(sample.metric.name, {}), sample)
        for metric in METRICS:
            if told := found.get(metric.name):
                yield _family(metric, told)


def _add(told: dict[tuple[str, ...], float | Histogram], sample: Sample) -> None:
    before = told.get(sample.labels)
    if before is None:
        told[sample.labels] = sample.value
    elif isinstance(before, Histogram) or isinstance(sample.value, Histogram):
        raise ValueError(f"two sources tell of {sample.metric.name} with the labels {sample.labels}")
    else:
        told[sample.labels] = before + sample.value


def _family(metric: Metric, told: Mapping[tuple[str, ...], float | Histogram]) -> Family:
    single = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    plain = single(metric.name, metric.help, labels=metric.labels)
    buckets = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in told.items():
        if isinstance(value, Histogram):
            edges = [*(str(float(bound)) for bound in value.bounds), "+Inf"]
            buckets.add_metric(labels, list(zip(edges, accumulate(value.counts), strict=True)), value.sum)
        else:
            plain.add_metric(labels, value)
    return buckets if metric.kind == "histogram" else plain


class Scrape:
    """The endpoint of one process.

    Args:
        part: worker, scheduler, http or history: what the process is.
        sources: what it counts.
        probe: whether the broker answers.
        state: what is missing until the part is ready; None where it needs no more than the broker.
        look: asks the broker what the sources tell of it; called seldom, and given up when it takes too long.
    """

    def __init__(
        self,
        part: str,
        sources: Iterable[Source],
        *,
        probe: BrokerProbe,
        state: WorkerState | None = None,
        look: Look | None = None,
        limit_seconds: float = DEFAULT_LIMITS.ready_seconds,
    ) -> None:
        self._part = part
        self._probe, self._state, self._look, self._limit_seconds = probe, state, look, limit_seconds
        self._looked_at = float("-inf")
        self._broker_up = False
        self._looking = asyncio.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(Collected([self._own, *sources]))
        ProcessCollector(registry=self._registry)

    async def answer(self, request: Request) -> Response:
        """Everything, in the text format that the scraper asks for."""
        async with self._looking:
            if monotonic() - self._looked_at >= LOOK_AGAIN_SECONDS or not self._broker_up:
                self._broker_up = await self._reaches()
                self._looked_at = monotonic()
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(self._registry), headers={"content-type": content_type})

    async def _reaches(self) -> bool:
        try:
            async with asyncio.timeout(self._limit_seconds):
                if not await self._probe():
                    return False
                if self._look is not None:
                    await self._look()
        except (PlayheadError, TimeoutError):
            return False
        return True

    def _own(self) -> Samples:
        yield BUILD.sample(1, self._part, installed_version())
        yield BROKER_UP.sample(self._broker_up, self._part)
        missing = self._state is not None and bool(self._state().missing)
        yield READY.sample(self._broker_up and not missing, self._part)


def installed_version() -> str:
    """Of Playhead; 0 where it runs from a source tree that is not installed."""
    try:
        return version("playhead")
    except PackageNotFoundError:
        return "0"
