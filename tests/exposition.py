"""Reading what /metrics answers."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from playhead.http.scrape import Collected
from playhead.metrics import METRICS, Source

Labels = frozenset[tuple[str, str]]


class Exposition:
    """An answer of /metrics, parsed, after checking that each family of Playhead's is the table's."""

    def __init__(self, text: str) -> None:
        table = {metric.name.removesuffix("_total"): metric for metric in METRICS}
        self._values: dict[tuple[str, Labels], float] = {}
        for family in text_string_to_metric_families(text):
            if family.name.startswith("process_"):
                continue
            metric = table[family.name]
            assert (family.type, family.documentation) == (metric.kind, metric.help)
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == set(metric.labels), sample
                self._values[sample.name, frozenset(sample.labels.items())] = sample.value

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self._values}

    def value(self, name: str, **labels: str) -> float:
        """Of exactly one series; the labels that are not given may be anything.

        Raises:
            AssertionError: there is none, or more than one.
        """
        found = [value for (n, have), value in self._values.items() if n == name and labels.items() <= set(have)]
        assert len(found) == 1, f"{name} {labels}: {found}"
        return found[0]

    def sum(self, name: str, **labels: str) -> float:
        """Of every series that has these labels."""
        return sum(value for (n, have), value in self._values.items() if n == name and labels.items() <= set(have))


def exposed(*sources: Source) -> Exposition:
    """What these sources tell, as it is served."""
    registry = CollectorRegistry()
    registry.register(Collected(sources))
    return Exposition(generate_latest(registry).decode())
