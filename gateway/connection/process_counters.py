"""What the data path counts: plain integers, which `gateway.observe.metrics` reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum

from gateway.connection.bus_holdings import Kind
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.device_limits import CountedLimit
from gateway.policy.engine.service_names import Service

FROM_DEVICES, TO_DEVICES = "from_devices", "to_devices"
"""The directions, as labels."""


def _counter(help_text: str) -> int:
    return field(default=0, metadata={"help": help_text})


@dataclass(slots=True)
class Counters:
    """Everything counted since this process started. Each field is a metric `gateway_<field>_total`.

    Where all values of its label are known (`values`), each is shown as 0 from the start: in a series that
    begins with 1 Prometheus sees no increase.
    """

    connections_opened: int = _counter("Device connections established, bus connection included.")
    messages_from_devices: int = _counter("PUBLISH packets received from devices.")
    messages_to_devices: int = _counter("PUBLISH packets from the bus for devices.")
    bytes_from_devices: int = _counter("MQTT bytes received from devices.")
    bytes_to_devices: int = _counter("MQTT bytes received from the bus for devices.")
    publishes_denied: int = _counter("PUBLISH packets from devices that the policy denied.")
    subscriptions_denied: int = _counter("Topic filters of SUBSCRIBE packets that the policy denied.")
    deliveries_denied: int = _counter("Messages from the bus not delivered because the policy denied them.")
    deliveries_too_large: int = _counter("Messages from the bus not delivered because of their size.")
    deliveries_dropped: int = _counter(
        "Messages of QoS 0 from the bus not delivered because their device does not take as many."
    )
    sealed: int = _counter("Payloads sealed on the way to the bus.")
    opened: int = _counter("Sealed payloads opened for a device.")
    open_failed: int = _counter("Sealed payloads dropped because they failed authentication.")
    empty_unsealed_dropped: int = _counter(
        "Empty messages on sensitive topics not delivered because they were neither sealed nor retained."
    )
    rewrapped_dropped: int = _counter("Messages sealed again under another key that were not heard twice.")
    protocol_errors: int = _counter("Connections closed for a malformed packet or a protocol error.")
    logins_verified: int = _counter("Logins whose secret was checked by Argon2id.")
    logins_remembered: int = _counter("Logins recognised without Argon2id.")
    logins_refused: int = _counter("Logins refused.")
    bus_connect_failures: int = _counter("Connections to the bus that failed or were refused.")
    policy_reloads: int = _counter("Policies put in force after a change.")
    policy_errors: int = _counter("Changed policies refused for their errors; the old one stays in force.")
    audit_suppressed: int = _counter("Audit events that got no log line because there were too many.")
    audit_dropped: int = _counter(
        "Audit events that found no place in the audit trail, and are counted in it."
    )
    refusals_not_kept: int = _counter("Refusals that `gateway-admin acl why` can't explain by their id.")
    tokens_issued: int = _counter("Tokens issued to devices.")
    tls_handshakes: int = _counter("TLS handshakes of devices that were done.")
    tls_handshake_failures: Counter[Enum] = field(
        default_factory=Counter,
        metadata={"help": "TLS handshakes of devices that were not done.", "labels": ("reason",)},
    )
    logins: Counter[tuple[str, str]] = field(
        default_factory=Counter,
        metadata={"help": "Logins, by what was shown and what came of it.", "labels": ("method", "outcome")},
    )
    messages_passed: Counter[tuple[str, str]] = field(
        default_factory=Counter,
        metadata={"help": "PUBLISH packets that went on.", "labels": ("direction", "qos")},
    )
    """At QoS 1 and 2. Those at QoS 0 are all that came, less these and less `messages_ended`."""
    messages_ended: Counter[str] = field(
        default_factory=Counter,
        metadata={
            "help": "PUBLISH packets that did not go on: denied, too large, or for the gateway itself.",
            "labels": ("direction",),
            "values": (FROM_DEVICES, TO_DEVICES),
        },
    )
    decisions: Counter[tuple[Enum, str, Enum]] = field(
        default_factory=Counter,
        metadata={
            "help": "Decisions on topics: one for a topic and connection, not for a message.",
            "labels": ("action", "outcome", "reason"),
        },
    )
    store_write_failures: Counter[str] = field(
        default_factory=Counter,
        metadata={"help": "What could not be saved, and was kept to be tried again.", "labels": ("part",)},
    )
    service_requests: Counter[Service] = field(
        default_factory=Counter,
        metadata={
            "help": "Requests to the service topics.",
            "labels": ("service",),
            "values": tuple(Service),
        },
    )
    service_refusals: Counter[tuple[Enum, Enum]] = field(
        default_factory=Counter,
        metadata={"help": "Requests to the service topics not granted.", "labels": ("service", "error")},
    )
    connections_refused: Counter[Reason] = field(
        default_factory=Counter,
        metadata={"help": "Device connections refused.", "labels": ("reason",)},
    )
    holdings_refused: Counter[Kind] = field(
        default_factory=Counter,
        metadata={
            "help": "What devices were refused for they hold as much on the bus.",
            "labels": ("kind",),
            "values": tuple(Kind),
        },
    )
    limits_reached: Counter[CountedLimit] = field(
        default_factory=Counter,
        metadata={
            "help": "Times that a device reached one of its limits.",
            "labels": ("limit",),
            "values": tuple(CountedLimit),
        },
    )
    audit_events: Counter[tuple[Enum, Enum]] = field(
        default_factory=Counter,
        metadata={"help": "Audit events.", "labels": ("kind", "outcome")},
    )
