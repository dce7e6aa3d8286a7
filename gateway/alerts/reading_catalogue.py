"""The readings that conditions may use: those of the history, of the channels and of single devices.

So monitoring.toml is checked before anything is measured, and by `gateway check` without a running gateway.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.alerts.device_readings import (
    BYTES,
    CONNECTS,
    MESSAGE_BYTES,
    MESSAGES,
    NAMES,
    NEW_ADDRESSES,
    SILENT_SECONDS,
    SPAN_MAX,
    WRONG_LOGINS,
)
from gateway.alerts.readings_protocol import Catalogue, Series
from gateway.observe import metric_catalogue
from gateway.observe.metric_catalogue import SERVICE_WORDS, MetricType, readings

CHANNEL_WORDS: Mapping[str, float] = SERVICE_WORDS

_COUNTED = Series(("device",), grows=True, span_most=SPAN_MAX)
_OF_DEVICE = Series(("device",))
_BESIDES: Catalogue = {
    "channel_status": Series(("channel",), CHANNEL_WORDS),
    **dict.fromkeys((WRONG_LOGINS, CONNECTS, MESSAGES, BYTES, NEW_ADDRESSES), _COUNTED),
    **dict.fromkeys((MESSAGE_BYTES, SILENT_SECONDS), _OF_DEVICE),
}


def live_gauges() -> Mapping[str, Series]:
    """Those that are no part of the history: a condition gets the number of now. Of devices others answer."""
    return {
        name: Series(metric.labels, metric.words)
        for name, metric in metric_catalogue.catalogue().items()
        if not metric.kept and metric.type is MetricType.GAUGE and name not in NAMES
    }


def catalogue() -> Catalogue:
    """All of them."""
    measured = {
        name: Series(metric.labels, metric.words, grows=metric.type is not MetricType.GAUGE)
        for name, metric in readings().items()
    }
    return {**measured, **live_gauges(), **_BESIDES}
