"""What is counted, and how Prometheus reads it.

Owns the counters: plain integers that the data path increments, 30 ns each, and that one collector
reads when somebody scrapes. Must not know who counts. No label ever holds what a peer chose (topic,
client id, device id), for each value would be a time series of its own: labels are our own enums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.mqtt.reasons import Reason


def _counter(help_text: str) -> int:
    return field(default=0, metadata={"help": help_text})


@dataclass(slots=True)
class Counters:
    """Everything counted since this process started. Each field is a metric `gateway_<field>_total`."""

    connections_opened: int = _counter("Device connections established, bus connection included.")
    messages_from_devices: int = _counter("PUBLISH packets accepted from devices.")
    messages_to_devices: int = _counter("PUBLISH packets sent to devices.")
    bytes_from_devices: int = _counter("MQTT bytes received from devices.")
    bytes_to_devices: int = _counter("MQTT bytes sent to devices.")
    publishes_denied: int = _counter("PUBLISH packets from devices that the policy denied.")
    subscriptions_denied: int = _counter("Topic filters of SUBSCRIBE packets that the policy denied.")
    deliveries_denied: int = _counter("Messages from the bus not delivered because the policy denied them.")
    sealed: int = _counter("Payloads sealed on the way to the bus.")
    opened: int = _counter("Sealed payloads opened for a device.")
    open_failed: int = _counter("Sealed payloads dropped because they failed authentication.")
    protocol_errors: int = _counter("Connections closed for a malformed packet or a protocol error.")
    logins_verified: int = _counter("Logins whose secret was checked by Argon2id.")
    logins_remembered: int = _counter("Logins recognised without Argon2id.")
    logins_refused: int = _counter("Logins refused.")
    bus_connect_failures: int = _counter("Connections to the bus that failed or were refused.")
    policy_reloads: int = _counter("Policies put in force after a change.")
    policy_errors: int = _counter("Changed policies refused for their errors; the old one stays in force.")
    audit_suppressed: int = _counter("Audit events that got no log line because there were too many.")
    connections_refused: Counter[Reason] = field(
        default_factory=Counter,
        metadata={"help": "Device connections refused.", "labels": ("reason",)},
    )
    audit_events: Counter[tuple[Enum, Enum]] = field(
        default_factory=Counter,
        metadata={"help": "Audit events.", "labels": ("kind", "outcome")},
    )


@dataclass(frozen=True, slots=True)
class Gauge:
    """A value that goes up and down, asked for at each scrape; `read` must not block."""

    help: str
    read: Callable[[], float]


def registry(counters: Counters, gauges: Mapping[str, Gauge]) -> CollectorRegistry:
    """A registry of our own: `counters`, `gauges` as `gateway_<name>`, and this process's CPU and memory."""
    own = CollectorRegistry(auto_describe=False)
    own.register(_Reader(counters, gauges))
    ProcessCollector(registry=own)
    return own


class _Reader(Collector):
    def __init__(self, counters: Counters, gauges: Mapping[str, Gauge]) -> None:
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
            yield GaugeMetricFamily(f"gateway_{name}", gauge.help, value=gauge.read())


def _parts(key: Enum | tuple[Enum, ...]) -> tuple[Enum, ...]:
    return key if isinstance(key, tuple) else (key,)
