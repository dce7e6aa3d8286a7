"""What is counted, and how Prometheus reads it.

Owns the counters: plain integers that the data path increments, 30 ns each, and that one collector
reads when somebody scrapes. Must not know who counts. No label ever holds what a peer chose (topic,
client id, device id), for each value would be a time series of its own: labels are our own enums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import Enum

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.connection.process_counters import Counters


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that goes up and down, asked for at each scrape; `read` must not block."""

    help: str
    read: Callable[[], float]


@dataclass(frozen=True, slots=True)
class LabelledGauge:
    """Several of them, told apart by a label whose values are ours."""

    help: str
    label: str
    read: Callable[[], Mapping[str, float]]


def collector_registry(counters: Counters, gauges: Mapping[str, Gauge | LabelledGauge]) -> CollectorRegistry:
    """A registry of our own: `counters`, `gauges` as `gateway_<name>`, and this process's CPU and memory."""
    own = CollectorRegistry(auto_describe=False)
    own.register(_Reader(counters, gauges))
    ProcessCollector(registry=own)
    return own


class _Reader(Collector):
    def __init__(self, counters: Counters, gauges: Mapping[str, Gauge | LabelledGauge]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for item in fields(Counters):
            value: int | Counter[Enum] | Counter[tuple[Enum, ...]] = getattr(self._counters, item.name)
            labels = item.metadata.get("labels", ())
            family = CounterMetricFamily(f"gateway_{item.name}", item.metadata["help"], labels=labels)
            if isinstance(value, int):
                family.add_metric((), value)
            else:
                for key, count in value.items():
                    family.add_metric([part.name.lower() for part in _parts(key)], count)
            yield family
        for name, gauge in self._gauges.items():
            if isinstance(gauge, Gauge):
                yield GaugeMetricFamily(f"gateway_{name}", gauge.help, value=gauge.read())
                continue
            several = GaugeMetricFamily(f"gateway_{name}", gauge.help, labels=[gauge.label])
            for label, now in gauge.read().items():
                several.add_metric([label], now)
            yield several


def _parts(key: Enum | tuple[Enum, ...]) -> tuple[Enum, ...]:
    return key if isinstance(key, tuple) else (key,)
