"""The rules that are in force without a file, and those that monitoring.toml switches on by naming them.

Their names and what they watch are public: monitoring.toml changes a shipped rule by its name.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.alerts.rules import Severity

CHANNEL_RULE = "channel_down"
"""The rule whose alert about a channel is not sent through that channel."""


@dataclass(frozen=True, slots=True)
class ShippedRule:
    """A rule as it is shipped."""

    name: str
    condition: str
    duration: int
    """Seconds."""
    severity: Severity
    summary: str
    on: bool = True
    """Whether it is in force without being named in monitoring.toml."""


_OTHERS = ", ".join(
    f'service!="{one}"' for one in ("bus", "validity", "certificates", "disk", "loop", "audit")
)
"""All checks of health but those with a rule of their own, so that one fault is one alert."""

SHIPPED: tuple[ShippedRule, ...] = (
    ShippedRule("cpu_high", "cpu_percent > 80", 300, Severity.WARNING, "The gateway's machine is busy."),
    ShippedRule(
        "memory_high", "memory_percent > 90", 120, Severity.ERROR, "The gateway's machine is short of memory."
    ),
    ShippedRule(
        "disk_low",
        "disk_free_percent < 10",
        120,
        Severity.ERROR,
        "The disk of the data folder is nearly full: make room, or nothing more can be saved.",
    ),
    ShippedRule(
        "service_down",
        f'service_status{{{_OTHERS}}} == "down"',
        60,
        Severity.CRITICAL,
        "A check of health fails: `gateway-admin status` says why.",
    ),
    ShippedRule(
        "service_degraded",
        # What is served over the bus (the check `services`) can't be while there is none.
        f'service_status{{{_OTHERS}}} == "degraded" and not service_status{{service="bus"}} == "down"',
        900,
        Severity.WARNING,
        "A check of health fails, and devices are served all the same: `gateway-admin status` says why.",
    ),
    ShippedRule(
        "bus_down",
        'service_status{service="bus"} == "down"',
        30,
        Severity.CRITICAL,
        "The bus does not answer: no device is served.",
    ),
    ShippedRule(
        "certificate_ending",
        "certificate_life_left < 0.333",
        0,
        Severity.WARNING,
        "A certificate or revocation list is in the last third of its life: renew it.",
    ),
    ShippedRule(
        "certificate_ended",
        "certificate_life_left <= 0",
        0,
        Severity.CRITICAL,
        "A certificate or revocation list has ended: devices are not served, or not let in.",
    ),
    ShippedRule(
        "certificate_refused",
        # While one has expired the check fails for that, which certificate_ended tells.
        'service_status{service="certificates"} == "degraded" '
        'and not service_status{service="validity"} == "down"',
        900,
        Severity.WARNING,
        "A changed certificate can't be used, the one before is in force: `gateway-admin status` says why.",
    ),
    ShippedRule(
        "wrong_logins",
        "increase(logins_refused_total, 5m) > 50",
        0,
        Severity.WARNING,
        "More than 50 logins were refused in five minutes: somebody guesses, or a device has an old secret.",
    ),
    ShippedRule(
        "denials",
        "increase(publishes_denied_total, 5m) > 100 or increase(subscriptions_denied_total, 5m) > 100",
        0,
        Severity.WARNING,
        "More than 100 messages or subscriptions were denied in five minutes: the log names the devices.",
    ),
    ShippedRule(
        "unopenable_seals",
        "increase(open_failed_total, 5m) > 0",
        0,
        Severity.ERROR,
        "A sealed message did not open: it was altered, or its key is gone.",
    ),
    ShippedRule(
        "audit_not_written",
        'service_status{service="audit"} != "up"',
        30,
        Severity.CRITICAL,
        "The audit trail can't be written, and nothing be changed; or has room for administrators alone.",
    ),
    ShippedRule(
        "loop_lag",
        "loop_lag_seconds > 200ms",
        60,
        Severity.WARNING,
        "The gateway answers late: its event loop lags.",
    ),
    ShippedRule(
        CHANNEL_RULE,
        'channel_status == "down"',
        60,
        Severity.ERROR,
        "A channel of alerts does not deliver: the log says why.",
    ),
    # Of single devices: to be switched on by their names.
    ShippedRule(
        "device_wrong_logins",
        "increase(device_wrong_logins_total, 5m) > 10",
        0,
        Severity.WARNING,
        "Logins in the name of this device were refused again and again.",
        on=False,
    ),
    ShippedRule(
        "device_connects",
        "increase(device_connects_total, 5m) > 30",
        0,
        Severity.WARNING,
        "This device connects again and again.",
        on=False,
    ),
    ShippedRule(
        "device_messages",
        "increase(device_messages_total, 5m) > 3000",
        0,
        Severity.WARNING,
        "This device publishes more messages than expected.",
        on=False,
    ),
    ShippedRule(
        "device_bytes",
        "increase(device_bytes_total, 5m) > 10000000",
        0,
        Severity.WARNING,
        "This device sends more bytes than expected.",
        on=False,
    ),
    ShippedRule(
        "device_message_size",
        "device_message_bytes > 65536",
        0,
        Severity.WARNING,
        "The messages of this device are longer than expected.",
        on=False,
    ),
    ShippedRule(
        "device_new_address",
        "increase(device_new_addresses_total, 15m) > 0",
        0,
        Severity.INFO,
        "This device logged in from an address that it was not seen at before.",
        on=False,
    ),
    ShippedRule(
        "device_silent",
        "device_silent_seconds > 1h",
        0,
        Severity.WARNING,
        "Nothing was heard of this device for too long.",
        on=False,
    ),
)
