"""Who is connected now, as the running gateway says, for `device list` and `show`; `device kick`."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gateway.cli.output import Failure, Json, answering
from gateway.cli.settings_policy_store import Config, DeviceId, device_of, settings_of
from gateway.system.utc_text import utc_text


@dataclass(frozen=True, slots=True)
class Here:
    """The connections of each device, or why nothing is known of them."""

    by_device: Mapping[str, Sequence[Mapping[str, object]]]
    unknown: str = ""
    """Why nothing is known; empty if the gateway has answered."""
    running: bool = True
    """Whether a gateway runs with this data folder: else nobody is connected."""

    def of(self, device_id: str) -> Sequence[Mapping[str, object]] | None:
        """Its connections, the oldest first; None when that is not known."""
        return None if self.unknown else self.by_device.get(device_id, ())


def who_is_here(folder: Path, device_id: str | None = None) -> Here:
    """The connections of one device, or of all, to the gateway with this data folder."""
    from gateway.control.client import NotAnswered, NotRunning, ask

    only = {} if device_id is None else {"device_id": device_id}
    found: dict[str, list[Mapping[str, object]]] = defaultdict(list)
    try:
        for item in ask(folder, "connections", **only):
            found[str(item.get("device_id"))].append(
                {name: value for name, value in item.items() if name != "device_id"}
            )
    except NotRunning as error:
        return Here({}, str(error), running=False)
    except NotAnswered as error:
        return Here({}, str(error))
    for connections in found.values():
        connections.sort(key=_since)
    return Here(found)


def column(here: Here, device_id: str) -> str:
    """Whether this device is connected, in a word or two; empty when that is not known."""
    connections = here.of(device_id)
    if connections is None:
        return ""
    if not connections:
        return "no"
    more = f" ({len(connections)} connections)" if len(connections) > 1 else ""
    return f"since {_time(_since(connections[0]))}{more}"


def lines(here: Here, device_id: str) -> list[str]:
    """A line for each of its connections, or one that says why there is none."""
    connections = here.of(device_id)
    if connections is None:
        known = "no" if not here.running else "unknown"
        return [f"connected  {known}: {here.unknown}"]
    return [f"connected  {_line(one)}" for one in connections] or ["connected  no"]


def _line(one: Mapping[str, object]) -> str:
    return (
        f"since {_time(_since(one))} from {one.get('address')}, client id {one.get('client_id')}, "
        f"MQTT {one.get('protocol')}, by {one.get('login')}; {_last_message(one)}"
    )


def _last_message(one: Mapping[str, object]) -> str:
    at = one.get("last_message_at")
    if not isinstance(at, int):
        return "no message yet"
    seconds = max(0, int(datetime.now(UTC).timestamp()) - at // 1_000)
    return f"last message {seconds} s ago"


def _since(one: Mapping[str, object]) -> int:
    at = one.get("connected_at")
    return at if isinstance(at, int) else 0


def _time(milliseconds: int) -> str:
    return utc_text(milliseconds // 1_000)


def kick(device_id: DeviceId, as_json: Json = False, config: Config = None) -> None:
    """End the connections of a device now; it may come back at once. `device disable` keeps it out.

    MQTT 5 clients are told why (0x98, administrative action). The bus publishes the will, as for any
    connection that ends without a goodbye: whoever watches the device learns that it is gone. Exit code 1:
    there is no such device, it is not connected, or no gateway runs here.

    For example:

        gateway-admin device kick lamp-1
    """
    with answering(as_json=as_json) as answer:
        from gateway.control.client import NotAnswered, NotRunning, ask

        settings = settings_of(config)
        asyncio.run(device_of(settings, device_id))
        try:
            (said,) = ask(settings.gateway_data_dir, "kick", device_id=device_id)
        except NotRunning as error:
            raise Failure(f"{error}, so {device_id} is not connected") from None
        except NotAnswered as error:
            raise Failure(str(error)) from None
        count = said.get("connections")
        if not count:
            raise Failure(f"device {device_id} is not connected")
        ended = "Its connection was" if count == 1 else f"Its {count} connections were"
        answer.give(
            {"device_id": device_id, "connections": count}, f"Device {device_id} kicked. {ended} ended."
        )
