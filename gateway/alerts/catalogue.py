"""The readings that conditions may use: those of the history, and what alerts themselves know besides.

So a file is judged before anything was measured, and `gateway check` judges it without a gateway.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.alerts.readings import Catalogue, Series
from gateway.observe.metric_catalogue import SERVICE_WORDS, Kind, readings

CHANNEL_WORDS: Mapping[str, float] = SERVICE_WORDS

_OF_DEVICE = ("device",)
_BESIDES: Catalogue = {
    "channel_status": Series(("channel",), CHANNEL_WORDS),
    "device_wrong_logins_total": Series(_OF_DEVICE, grows=True),
    "device_connects_total": Series(_OF_DEVICE, grows=True),
    "device_messages_total": Series(_OF_DEVICE, grows=True),
    "device_bytes_total": Series(_OF_DEVICE, grows=True),
    "device_new_addresses_total": Series(_OF_DEVICE, grows=True),
    "device_message_bytes": Series(_OF_DEVICE),
    "device_silent_seconds": Series(_OF_DEVICE),
}


def catalogue() -> Catalogue:
    """All of them."""
    measured = {
        name: Series(metric.labels, metric.words, grows=metric.kind is not Kind.GAUGE)
        for name, metric in readings().items()
    }
    return {**measured, **_BESIDES}
