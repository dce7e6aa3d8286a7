"""`gateway-admin device trace`: what one device sends and hears, and what is decided about it, live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import typer

from gateway.cli.durations import seconds_of
from gateway.cli.output import Failure, Json, answering, wrong_usage
from gateway.cli.settings_policy_store import Config, DeviceId, device_of, settings_of
from gateway.observe.terminal_escaping import printable

_SECONDS_MAX = 3_600
_TEXTS = ("topic", "client_id")
_NUMBERS = {"packet_id": "id", "topic_alias": "alias", "keep_alive": "keep alive"}


def trace(
    device_id: DeviceId,
    time: Annotated[
        str, typer.Option("--for", metavar="TIME", help="For how long: 30s, 5m; 60m at most.")
    ] = "5m",
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show the packets of a device as they happen, and what is decided about each.

    Of a packet: its type, topic, QoS, sizes and reason code, the verdict and the rule that decided. Never a
    payload, a user property or a secret. A device that is not connected is waited for, and its refused logins
    are shown. Nobody else is slowed down: of more than 500 packets a second the number is shown, and of a
    flood that there were more. Ctrl-C ends it. The audit records who traced which device. With --json it is
    one JSON object a line. Exit code 1: there is no such device, or no gateway runs here.

    For example:

        gateway-admin device trace lamp-1 --for 30s
    """
    with answering(as_json=as_json):
        seconds = seconds_of("--for", time, such_as="5m")
        if seconds > _SECONDS_MAX:
            raise wrong_usage(f"--for is {_SECONDS_MAX // 60}m at the most")
        from gateway.control.client import NotAnswered, NotRunning, follow

        settings = settings_of(config)
        asyncio.run(device_of(settings, device_id))
        try:
            with suppress(KeyboardInterrupt):
                for line in follow(settings.gateway_data_dir, "trace", device_id=device_id, seconds=seconds):
                    print(json.dumps(line) if as_json else _text(line), flush=True)
        except NotRunning as error:
            raise Failure(f"{error}: a trace shows what passes through a running one") from None
        except NotAnswered as error:
            raise Failure(str(error)) from None


def _text(line: Mapping[str, object]) -> str:
    at = line.get("at")
    seconds = at / 1_000 if isinstance(at, int) else 0
    clock = datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S.%f")[:12]
    said = _event(line) if "event" in line else _packet(line)
    return printable(f"{clock}  {said}")


def _event(line: Mapping[str, object]) -> str:
    event = line["event"]
    rest = {name: value for name, value in line.items() if name not in {"at", "event", "connection", "since"}}
    return " ".join(
        [f"-- {event}", *(f"{name}={_value(value)}" for name, value in rest.items() if value != "")]
    )


def _value(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if " " in text or not text else text


def _packet(line: Mapping[str, object]) -> str:
    way = f"{line.get('from')} -> {line.get('to')}"
    parts = [f"{way:<17} ", str(line.get("packet")), *(str(line[name]) for name in _TEXTS if line.get(name))]
    if "qos" in line:
        parts.append(f"qos {line['qos']}")
    parts += [flag for flag in ("retain", "dup") if line.get(flag)]
    parts += [f"{words} {line[name]}" for name, words in _NUMBERS.items() if name in line]
    if "will_topic" in line:
        parts.append(f"will {line['will_topic']} qos {line.get('will_qos')}")
    codes = line.get("codes", [line["code"]] if "code" in line else [])
    if isinstance(codes, list) and codes:
        parts.append(f"code {_codes(codes)}")
    if "payload_size" in line:
        parts[-1] += f", {line['payload_size']} bytes"
    filters = line.get("filters")
    if isinstance(filters, list):
        parts.append("; ".join(f"{one.get('filter')}{_verdict(one)}" for one in filters))
    said = " ".join(parts) + _verdict(line)
    if "service" in line:
        said += f": a request to the gateway's own service {line['service']}"
    if "fault" in line:
        said += f": malformed, {line['fault']}"
    return said


def _codes(codes: Sequence[object]) -> str:
    return " ".join(f"{code:#04x}" for code in codes if isinstance(code, int))


def _verdict(one: Mapping[str, object]) -> str:
    if "allowed" not in one:
        return ""
    rule = f" ({one['rule']})" if one.get("rule") else ""
    sealed = ", sensitive" if one.get("sensitive") else ""
    if one.get("observed"):
        return f": passes, for the device is observed; {one.get('reason')}{rule}"
    return f": allowed{rule}{sealed}" if one["allowed"] else f": refused. {one.get('reason')}{rule}"
