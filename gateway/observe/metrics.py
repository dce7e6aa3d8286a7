"""How the numbers of the metrics are read, for Prometheus and for the history.

Owns where the number of each name in the catalogue comes from. Numbers are read when somebody
asks: counters are plain integers that the data path increments, 30 ns each. Must not know who counts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from typing import TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import (
    Metric as Family,
)
from prometheus_client.registry import Collector

from gateway.connection.process_counters import Counters
from gateway.observe.history_encoding import Labels
from gateway.observe.logs import get_logger
from gateway.observe.metric_catalogue import PREFIX, Metric, MetricType, catalogue

_log = get_logger()

_CountedBy: TypeAlias = Enum | str
Numbers: TypeAlias = float | Mapping[str, float] | Mapping[tuple[str, ...], float] | None
"""A number; or one per value of its label, or per values of its labels in their order; None while there is
none."""


class Histogram:
    """How long something took, in buckets; `observe` costs a few additions."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        """`bounds` are the upper ends of the buckets, the lowest first; above the last there is one more."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """The upper end of each bucket, as text, and how many values were at most that."""
        below, found = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            found.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(below)))
        return found


Read: TypeAlias = Callable[[], Numbers]
"""Reads a metric. It must not block."""


class Metrics:
    """All metrics, and where the number of each comes from."""

    def __init__(self, counters: Counters) -> None:
        self._catalogue = catalogue()
        self._sources: dict[str, Read | Histogram] = {}
        self._broken: set[str] = set()
        self._process = ProcessCollector(registry=None)
        for item in fields(Counters):
            self._sources[item.name] = _counter(counters, item.name, item.metadata.get("values", ()))

    def read(self, **sources: Read | Histogram) -> None:
        """Read these metrics from these sources. Raises KeyError for a name that is not in the catalogue."""
        for name, source in sources.items():
            if isinstance(source, Histogram) is not (self._catalogue[name].type is MetricType.HISTOGRAM):
                raise KeyError(f"{name} is a {self._catalogue[name].type.name.lower()}")
            self._sources[name] = source

    def missing(self) -> set[str]:
        """The names of the catalogue that have no source."""
        return self._catalogue.keys() - self._sources.keys()

    def found(self) -> Iterator[tuple[Metric, Histogram | dict[tuple[str, ...], float]]]:
        """Each metric, and its numbers by the values of its labels. One that can't be read is left out."""
        for metric in self._catalogue.values():
            numbers = self._numbers(metric)
            if numbers is not None:
                yield metric, numbers

    def _numbers(self, metric: Metric) -> Histogram | dict[tuple[str, ...], float] | None:
        source = self._sources.get(metric.name)
        if source is None or isinstance(source, Histogram):
            return source
        try:
            value = source()
        except Exception as error:  # noqa: BLE001 - a fault of ours in one must not take the others away
            if metric.name not in self._broken:
                self._broken.add(metric.name)
                _log.error("internal error", metric=metric.name, exc_info=error)
            return None
        if isinstance(value, Mapping):
            return {key if isinstance(key, tuple) else (key,): one for key, one in value.items()}
        return None if value is None else {(): value}

    def latest(self, name: str) -> Mapping[Labels, float]:
        """The numbers of this metric as they are now; none of one that can't be read, or is a histogram."""
        metric = self._catalogue[name]
        numbers = self._numbers(metric)
        return _labelled(metric, numbers) if isinstance(numbers, dict) else {}

    def samples(self) -> dict[str, dict[Labels, float]]:
        """All numbers as the history takes them: of a histogram its sum and count."""
        samples: dict[str, dict[Labels, float]] = {}
        for metric, values in self.found():
            if not metric.kept:
                continue
            if isinstance(values, Histogram):
                total, count = metric.readings
                samples[total], samples[count] = {(): values.total}, {(): values.count}
            else:
                (name,) = metric.readings
                samples[name] = _labelled(metric, values)
        for family in self._process.collect():
            for sample in family.samples:
                samples[sample.name] = {(): sample.value}
        return samples


def _labelled(metric: Metric, values: Mapping[tuple[str, ...], float]) -> dict[Labels, float]:
    return {tuple(zip(metric.labels, key, strict=True)): value for key, value in values.items()}


def collector_registry(metrics: Metrics) -> CollectorRegistry:
    """A registry of our own: the metrics as `gateway_<name>`, and this process's CPU and memory."""
    own = CollectorRegistry(auto_describe=False)
    own.register(_Reader(metrics))
    ProcessCollector(registry=own)
    return own


class _Reader(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        for metric, values in self._metrics.found():
            if not metric.scraped:
                continue
            name = f"{PREFIX}{metric.name}"
            if isinstance(values, Histogram):
                yield HistogramMetricFamily(
                    name, metric.help, buckets=values.buckets(), sum_value=values.total
                )
                continue
            kind = CounterMetricFamily if metric.type is MetricType.COUNTER else GaugeMetricFamily
            family = kind(name, metric.help, labels=metric.labels)
            for key, value in values.items():
                family.add_metric(key, value)
            yield family


def _counter(counters: Counters, name: str, known: Sequence[_CountedBy]) -> Read:
    nothing = {_labels(one): 0 for one in known}

    def read() -> Numbers:
        value: int | Counter[_CountedBy | tuple[_CountedBy, ...]] = getattr(counters, name)
        if isinstance(value, int):
            return value
        return nothing | {_labels(key): count for key, count in value.items()}

    return read


def _labels(key: _CountedBy | tuple[_CountedBy, ...]) -> tuple[str, ...]:
    parts = key if isinstance(key, tuple) else (key,)
    return tuple(part.name.lower() if isinstance(part, Enum) else part for part in parts)
