"""What there is to attack with."""

from __future__ import annotations

from attacks import devices, logins, records, strangers
from attacks.trial import Row

MIB = 1 << 20


def _floods() -> list[Row]:
    """Many connections of one device that send the same over and over."""
    rows = []
    for packets, connections, each in [
        ("refused", 1, True),
        ("refused", 1, False),
        ("refused", 20, False),
        ("refused", 60, True),
        ("refused", 60, False),
        ("refused, new topics", 60, False),
        ("refused, deep topics", 60, False),
        ("refused, to be answered", 60, False),
        ("sealed", 1, False),
        ("sealed", 60, True),
        ("sealed", 60, False),
        ("sealed, 64 KiB", 60, False),
        ("sealed, 16 MiB", 20, False),
        ("allowed", 60, False),
        ("allowed, 16 MiB", 60, False),
        ("acknowledgements", 1, False),
        ("acknowledgements", 60, True),
        ("acknowledgements", 60, False),
        ("acknowledgements of QoS 2", 60, False),
        ("QoS 2", 20, False),
        ("QoS 2", 60, False),
        ("QoS 2, refused", 60, False),
        ("subscribe", 60, False),
        ("subscribe, unsubscribe", 1, False),
        ("subscribe, unsubscribe", 60, False),
        ("pings", 60, True),
        ("service calls", 1, False),
        ("service calls", 60, False),
        ("service calls, 16 MiB", 1, False),
        ("service calls, 16 MiB", 20, False),
        ("service calls, 16 MiB of members", 20, False),
        ("service calls, nested", 20, False),
        ("foreign tokens to validate", 60, False),
        ("calls for a token", 20, False),
        ("user properties", 60, False),
        ("topic aliases", 60, False),
        ("a long topic by its alias", 60, False),
    ]:
        name = f"{packets}, {connections} connection{'s' * (connections > 1)}{', each a record' * each}"
        words = {"packets": packets, "connections": connections, "each": each}
        role = "full" if packets.startswith("service calls") else "sensor"
        rows.append(Row(name, devices.flood, words, role=role, as_device=True))
    for packets in ("refused, to be answered", "pings"):
        words = {"packets": packets, "connections": 60, "reads": False}
        rows.append(Row(f"{packets}, 60 connections that never read", devices.flood, words, as_device=True))
    return rows


def _records() -> list[Row]:
    """TLS records that yield nothing."""
    rows = []
    for kind, stage, connections in [
        ("KeyUpdates", "before CONNECT", 1),
        ("KeyUpdates", "before CONNECT", 60),
        ("KeyUpdates", "after a refused CONNECT", 20),
        ("KeyUpdates", "after login", 1),
        ("KeyUpdates", "after login", 60),
        ("KeyUpdates", "after DISCONNECT", 20),
        ("KeyUpdates", "after bulk data", 20),
        ("KeyUpdates that ask for one", "after login", 20),
        ("data and KeyUpdates", "after login", 60),
        ("one-byte records", "before CONNECT", 20),
        ("one-byte records", "after login", 1),
        ("one-byte records", "after login", 60),
        ("one-byte records", "after DISCONNECT", 20),
        ("empty records", "before CONNECT", 20),
        ("empty records", "after login", 60),
        ("padding", "before CONNECT", 20),
        ("padding", "after login", 60),
        ("one byte and padding", "after login", 60),
    ]:
        name = f"{kind} {stage}, {connections} connection{'s' * (connections > 1)}"
        words = {"kind": kind, "stage": stage, "connections": connections}
        as_device = stage in {"after login", "after bulk data"}
        rows.append(Row(name, records.flood, words, as_device=as_device))
    words = {"kind": "KeyUpdates", "stage": "before CONNECT", "connections": 20, "port": "API"}
    rows.append(Row("KeyUpdates to the API, 20 connections", records.flood, words))
    return rows


def _strangers() -> list[Row]:
    crowd, pieces = strangers.crowd, strangers.pieces
    return [
        Row(
            "ClientHellos, 1,000 again and again",
            crowd,
            {"count": 1_000, "networks": 20, "says": "hello", "lasting": False},
        ),
        Row("ClientHellos, 1,000 that stay", crowd, {"count": 1_000, "networks": 20, "says": "hello"}),
        Row(
            "ClientHellos to the API",
            crowd,
            {"count": 1_000, "networks": 20, "says": "hello", "port": "API", "lasting": False},
        ),
        Row("half handshakes, 2,000", crowd, {"count": 2_000, "networks": 20, "says": "half a hello"}),
        Row("silent strangers, 4,000", crowd, {"count": 4_000, "networks": 40}),
        Row("silent strangers at the API, 2,000", crowd, {"count": 2_000, "networks": 40, "port": "API"}),
        Row("silent strangers at /health, 2,000", crowd, {"count": 2_000, "networks": 40, "port": "health"}),
        Row(
            "strangers that come and go",
            crowd,
            {"count": 300, "networks": 40, "says": "junk", "lasting": False},
        ),
        Row("CONNECTs of 60 kB in pieces", pieces, {"connections": 400, "networks": 40, "what": "CONNECT"}),
        Row(
            "CONNECTs of 60 kB, all but a byte",
            pieces,
            {"connections": 400, "networks": 40, "what": "named CONNECT", "size": 60_000},
        ),
        Row(
            "CONNECTs byte by byte",
            pieces,
            {"connections": 200, "networks": 40, "what": "CONNECT", "size": 1},
        ),
        Row(
            "HTTP headers without end",
            pieces,
            {"connections": 100, "networks": 40, "what": "HTTP headers", "port": "API"},
        ),
        Row(
            "HTTP chunks of a byte",
            pieces,
            {"connections": 100, "networks": 40, "what": "HTTP chunks", "port": "API", "size": 600},
        ),
        Row(
            "HTTP bodies, all but a byte",
            pieces,
            {"connections": 100, "networks": 40, "what": "HTTP body", "port": "API", "size": 60_000},
        ),
        Row(
            "HTTP pipelines",
            pieces,
            {"connections": 60, "networks": 40, "what": "HTTP pipeline", "port": "API", "size": 60_000},
        ),
        Row(
            "HTTP pipelines to /health",
            pieces,
            {"connections": 60, "networks": 40, "what": "HTTP pipeline", "port": "health", "size": 60_000},
        ),
        Row(
            "half HTTP requests to /health",
            pieces,
            {"connections": 100, "networks": 40, "what": "HTTP headers", "port": "health"},
        ),
        *(
            Row(
                f"PROXY headers: {what}", strangers.proxied, {"connections": 300, "what": what}, house="proxy"
            )
            for what in ("split at every byte", "split in two", "junk before", "a long first line")
        ),
    ]


def _logins() -> list[Row]:
    wrong = logins.wrong
    many = {"newcomers": 40, "at_once": True}
    return [
        Row("wrong logins, 1 network", wrong, {"networks": 1, "rate": 60.0}),
        Row(
            "wrong logins, 1 network, the honest device's name",
            wrong,
            {"networks": 1, "rate": 100.0, "names": "known"},
        ),
        Row("wrong logins, 8 networks", wrong, {"networks": 8, "rate": 100.0}),
        Row("wrong logins, 40 networks", wrong, {"networks": 40, "rate": 100.0}),
        Row("wrong logins, 40 networks, 300 a second", wrong, {"networks": 40, "rate": 300.0}),
        Row(
            "wrong logins, 40 networks, known names", wrong, {"networks": 40, "rate": 100.0, "names": "known"}
        ),
        Row(
            "wrong logins, 40 networks, newcomers' names",
            wrong,
            {"networks": 40, "rate": 100.0, "names": "newcomers"},
        ),
        Row(
            "wrong logins, 40 networks, newcomers' names, 60 kB",
            wrong,
            {"networks": 40, "rate": 100.0, "names": "newcomers", "size": 60_000},
            **many,
        ),
        Row("wrong logins, 40 networks, 40 newcomers", wrong, {"networks": 40, "rate": 100.0}, **many),
        Row("foreign tokens, 1 network", wrong, {"networks": 1, "rate": 200.0, "tokens": True}),
        Row("foreign tokens, 40 networks", wrong, {"networks": 40, "rate": 300.0, "tokens": True}),
        Row("wrong logins by HTTPS, 40 networks", wrong, {"networks": 40, "rate": 100.0, "port": "API"}),
    ]


def _holdings() -> list[Row]:
    """What one device takes of what is shared."""
    return [
        Row(
            "partial packets, 16 MiB on 60 connections",
            devices.partial,
            {"connections": 60, "size": 16 * MIB - 2_000},
            as_device=True,
        ),
        Row(
            "partial packets, 600 kB on 60 connections",
            devices.partial,
            {"connections": 60, "size": 600_000},
            as_device=True,
        ),
        Row("retained topics", devices.retained, {"connections": 4, "size": 10}, role="full", as_device=True),
        Row(
            "retained topics of 20 kB",
            devices.retained,
            {"connections": 4, "size": 20_000},
            role="full",
            as_device=True,
        ),
        Row("absent sessions", devices.absent, {"rate": 200.0, "v5": False}),
        Row("absent sessions, MQTT 5", devices.absent, {"rate": 200.0, "v5": True}),
        Row("subscriptions over reconnects", devices.resubscribed, {"rate": 50.0}),
        Row("connects, 600 a second", devices.storm, {"rate": 600.0, "orderly": False}),
        Row("connects and disconnects, 600 a second", devices.storm, {"rate": 600.0, "orderly": True}),
        Row(
            "a subscriber that never reads",
            devices.fan_out,
            {"connections": 1, "filters": 1, "size": 10_000, "reads": False},
            role="full",
            as_device=True,
        ),
        Row(
            "60 subscribers that never read",
            devices.fan_out,
            {"connections": 60, "filters": 1, "size": 10_000, "reads": False},
            role="full",
            as_device=True,
        ),
        *(
            Row(
                f"60 subscribers that never read, {what}",
                devices.fan_out,
                {"connections": 60, "filters": 1, "reads": False, **words},
                role="full",
                as_device=True,
            )
            for what, words in (
                ("50 B", {"size": 50}),
                ("1 MB", {"size": 1_000_000}),
                ("QoS 1 among QoS 0", {"size": 10_000, "qos": 1}),
                ("MQTT 5, QoS 1 among QoS 0", {"size": 10_000, "qos": 1, "v5": True}),
            )
        ),
        Row(
            "60 subscribers that read a little",
            devices.sip,
            {"connections": 60, "size": 10_000},
            role="full",
            as_device=True,
        ),
        Row(
            "20 subscribers to 1,000 filters that never read",
            devices.fan_out,
            {"connections": 20, "filters": 1_000, "size": 10_000, "reads": False},
            role="full",
            as_device=True,
        ),
        Row(
            "fan-out to 60 wide subscriptions",
            devices.fan_out,
            {"connections": 60, "filters": 1, "size": 50, "reads": True},
            role="full",
            as_device=True,
        ),
        Row(
            "fan-out to 1,000 filters on 20 connections",
            devices.fan_out,
            {"connections": 20, "filters": 1_000, "size": 50, "reads": True},
            role="full",
            as_device=True,
        ),
        Row("as many connections as it gets", devices.crowd, {"connections": 600}, as_device=True),
    ]


def _surroundings() -> list[Row]:
    """What was held up by where the gateway writes, or by who looks."""
    refused = {"packets": "refused", "connections": 20}
    return [
        Row("refused, and traced", devices.flood, refused, as_device=True, traced=True),
        Row(
            "allowed, and traced",
            devices.flood,
            {"packets": "allowed", "connections": 20},
            as_device=True,
            traced=True,
        ),
        Row("refused, LOG_LEVEL=debug", devices.flood, refused, as_device=True, house="debug"),
        Row("connects, LOG_LEVEL=debug", devices.storm, {"rate": 600.0, "orderly": True}, house="debug"),
        Row(
            "refused, stderr unread",
            devices.flood,
            {"packets": "refused, new topics", "connections": 20},
            as_device=True,
            house="unread",
        ),
        Row("wrong logins, stderr unread", logins.wrong, {"networks": 40, "rate": 100.0}, house="unread"),
        Row(
            "wrong logins, a webhook that hangs",
            logins.wrong,
            {"networks": 40, "rate": 100.0},
            house="webhook",
        ),
        Row("refused, a webhook that hangs", devices.flood, refused, as_device=True, house="webhook"),
    ]


ROWS = [
    Row("nothing", devices.idle),
    *_floods(),
    *_records(),
    *_strangers(),
    *_logins(),
    *_holdings(),
    *_surroundings(),
]
