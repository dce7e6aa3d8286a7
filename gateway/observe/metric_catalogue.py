"""Every metric there is, by name: what it says, its labels, and the words for its numbers.

What the data path counts is taken from `gateway.connection.process_counters`; all else stands here. One list
for Prometheus, the history and the conditions of alerts, so that a wrong name in a condition is found before
anything is measured. Must not know where the numbers come from: `gateway.observe.metrics` is given that.

No label holds what a peer chose (topic, client id, device id), for each value would make a series of its own.
The exception are the devices that monitoring.toml names (`metrics_of_devices`), which are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum, auto

from gateway.connection.process_counters import Counters

PREFIX = "gateway_"
"""Stands before the names in Prometheus, and not in the history and in conditions."""

SERVICE_WORDS: Mapping[str, float] = {"up": 1.0, "degraded": 0.5, "down": 0.0}


class MetricType(Enum):
    """What Prometheus calls the type of a metric."""

    COUNTER = auto()
    GAUGE = auto()
    HISTOGRAM = auto()


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, before it is measured."""

    name: str
    """Without the prefix, and of a counter without `_total`."""
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    words: Mapping[str, float] = field(default_factory=dict)
    """The names that a condition may write for numbers that stand for states, such as "down"."""
    scraped: bool = True
    """Whether Prometheus gets it. It does not if it has the same in base units under a different name."""
    kept: bool = True
    """Whether the history has it. It has no room for what is measured per device, nor for what makes a series
    more of each check, or a new one with each change. Conditions get the number that such a gauge has now."""

    @property
    def readings(self) -> tuple[str, ...]:
        """The names that it has in the history: a histogram has two."""
        if self.type is MetricType.COUNTER:
            return (f"{self.name}_total",)
        if self.type is MetricType.HISTOGRAM:
            return (f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, MetricType.GAUGE, text, labels)


def _unkept(name: str, text: str, *labels: str) -> Metric:
    return Metric(name, MetricType.GAUGE, text, labels, kept=False)


def _histogram(name: str, text: str) -> Metric:
    return Metric(name, MetricType.HISTOGRAM, text)


def _of_device(name: str, kind: MetricType, text: str) -> Metric:
    return Metric(name, kind, text, ("device",), kept=False)


_MEASURED = (
    # Connections
    _gauge("connections", "Device connections open now."),
    _gauge("connections_established", "Device connections that the bus has accepted.", "protocol", "login"),
    _gauge("connections_paused", "Connections of which one side is not read, and why.", "reason"),
    _gauge("devices", "Devices in the store, by state.", "state"),
    _gauge("devices_connected", "Devices that have at least one connection."),
    _gauge(
        "unfinished_bytes",
        "Bytes of packets that have begun and not ended, or that devices do not take.",
    ),
    _gauge("unread_bytes", "Bytes of answers that devices do not take."),
    _histogram(
        "device_round_trip_seconds", "From a message of a device to the answer of the bus, of samples."
    ),
    # The bus
    _gauge("bus_reachable", "1 when the bus answered when last asked."),
    _histogram(
        "bus_round_trip_seconds", "From a message of the gateway's own to the bus until it comes back."
    ),
    # Logins
    _gauge("argon2_waiting", "Logins that wait for their secret to be checked."),
    _gauge("argon2_at_work", "Secrets that are checked now."),
    _histogram("argon2_seconds", "For one secret to be checked, its wait not counted."),
    _histogram("revocation_seconds", "From a change in the store until every live connection knows of it."),
    _gauge("tokens_valid", "Tokens issued that have not expired, revoked ones among them."),
    # Of the devices that monitoring.toml names: `gateway.alerts.device_readings`
    _of_device(
        "device_wrong_logins", MetricType.COUNTER, "Logins in the name of this device that were refused."
    ),
    _of_device("device_connects", MetricType.COUNTER, "Logins of this device."),
    _of_device("device_messages", MetricType.COUNTER, "Messages that came from this device."),
    _of_device("device_bytes", MetricType.COUNTER, "Bytes of the messages that came from this device."),
    _of_device(
        "device_new_addresses", MetricType.COUNTER, "Logins from where this device was not seen before."
    ),
    _of_device("device_message_bytes", MetricType.GAUGE, "The mean size of its messages in the last 10 s."),
    _of_device("device_silent_seconds", MetricType.GAUGE, "For how long nothing was heard of this device."),
    # What is in force
    _unkept("policy_info", "The policy in force, by the beginning of its digest.", "digest"),
    _gauge("policy_loaded_timestamp_seconds", "Since when the policy is in force."),
    _gauge("certificates", "Certificates in use, by state.", "state"),
    _gauge(
        "certificate_expiry_timestamp_seconds", "Until when the certificates in use are good.", "certificate"
    ),
    _gauge(
        "certificate_start_timestamp_seconds", "Since when the certificates in use are good.", "certificate"
    ),
    _gauge("certificate_life_left", "What is left of the life of certificates, from 1 to 0.", "certificate"),
    _gauge("key_created_timestamp_seconds", "When the keys in force were made.", "kind"),
    _gauge("key_uses", "How often the sealing key in force was used."),
    _gauge("audit_entries", "Entries of the audit trail."),
    _gauge(
        "audit_checkpoint_timestamp_seconds",
        "When the audit trail was last signed by this process; 0 before that.",
    ),
    # Health
    _gauge("ready", "1 when a device would be served now."),
    _gauge("live", "0 when something failed that a restart mends."),
    Metric(
        "service_status",
        MetricType.GAUGE,
        "What each check of health found: 1 healthy, 0.5 degraded, 0 unhealthy.",
        ("service",),
        SERVICE_WORDS,
    ),
    _unkept("check_duration_seconds", "How long each check of health took.", "service"),
    _unkept("check_timestamp_seconds", "When each check of health was done last.", "service"),
    # The process and its machine
    _gauge("build_info", "What runs here.", "version", "python"),
    _gauge("workers", "Processes that serve devices."),
    _gauge("loop_lag_seconds", "The longest that the event loop was late in the last 10 s."),
    Metric("log_lines_dropped", MetricType.COUNTER, "Log lines that nobody read in time."),
    _gauge("history_series", "Series that the history keeps."),
    _gauge("history_series_left_out", "Series for which the history has no room."),
    _gauge("system_cpu_ratio", "How busy the processors of the machine are."),
    _gauge("system_load1", "Processes of the machine that run or want to, over a minute."),
    _gauge("system_memory_used_ratio", "How much of the machine's memory is in use."),
    _gauge("system_memory_available_bytes", "Memory of the machine that is available."),
    _gauge("data_disk_free_ratio", "How much of the disk of GATEWAY_DATA_DIR is free."),
    _gauge("data_disk_free_bytes", "Free bytes on the disk of GATEWAY_DATA_DIR."),
    Metric("cpu_percent", MetricType.GAUGE, "How busy the machine is.", scraped=False),
    Metric("memory_percent", MetricType.GAUGE, "How much of its memory is in use.", scraped=False),
    Metric(
        "disk_free_percent", MetricType.GAUGE, "How much of the data folder's disk is free.", scraped=False
    ),
    Metric("certificate_days_left", MetricType.GAUGE, "Until they expire.", ("certificate",), scraped=False),
)

PROCESS = (
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
)
"""What the Prometheus library itself measures of this process: without prefix and without labels."""


def catalogue() -> Mapping[str, Metric]:
    """All metrics by name."""
    counted = (
        Metric(item.name, MetricType.COUNTER, item.metadata["help"], item.metadata.get("labels", ()))
        for item in fields(Counters)
    )
    return {metric.name: metric for metric in (*counted, *_MEASURED)}


def readings() -> Mapping[str, Metric]:
    """All metrics that the history may have, by the names that they have there."""
    of_process = {
        name: Metric(
            name.removesuffix("_total"),
            MetricType.COUNTER if name.endswith("_total") else MetricType.GAUGE,
            "",
        )
        for name in PROCESS
    }
    kept = [metric for metric in catalogue().values() if metric.kept]
    return {name: metric for metric in kept for name in metric.readings} | of_process
