"""The rows of the table and the servers, in their order."""

from __future__ import annotations

from bench.many_open_connections import IdleCpu, PacedCrowd
from bench.nagle import FirstAnswer
from bench.observability_overhead import Observed, Unobserved
from bench.peers import Aedes, Amqtt, Gateway, HAProxy, Mosquitto, Nginx, Peer, Relay
from bench.policy_change import PolicyChange
from bench.token_and_service_costs import Calling, PacedCalling, TokenConnecting
from bench.workloads import Connecting, FanOut, Idle, InFlight, Paced, Pipelined, Row, Sealing

ROWS: tuple[Row, ...] = (
    Idle("idle", "idle TLS connection", 32),
    IdleCpu("idle-cpu", "idle process, CPU", 1),
    IdleCpu("idle-cpu-1000", "idle process with 1,000 connections, CPU", 5, connections=1_000),
    Connecting("connect-first", "TLS connect, secret seen for the first time", first=True, most=30),
    Connecting("connect", "TLS connect, full handshake, remembered secret", 900),
    TokenConnecting("connect-token", "TLS connect, full handshake, token seen before", 900),
    TokenConnecting("connect-new-token", "TLS connect, token seen for the first time", first=True),
    FirstAnswer("connack", "CONNACK after a TLS 1.3 handshake, client without TCP_NODELAY, wait"),
    FirstAnswer("connack-nodelay", "the same, client with TCP_NODELAY, wait", nodelay=True),
    Pipelined("q0", "QoS 0, pipelined", 1.5),
    Pipelined("q0-1", "QoS 0, pipelined, 1 connection", connections=1),
    Pipelined("q0-4k", "QoS 0 of 4 KiB, pipelined", size=4096),
    Pipelined("q0-100", "QoS 0, pipelined, 100 connections", connections=100),
    Paced("q0-record", "QoS 0, one message a TLS record", 9, connections=10, in_all=20_000),
    InFlight("q1", "QoS 1, 20 in flight each", 9),
    InFlight("q1-1", "QoS 1, 20 in flight, 1 connection", connections=1),
    InFlight("q1-100", "QoS 1, 20 in flight each, 100 connections", connections=100),
    Paced("q0-paced", "QoS 0, 100 devices, 5,000 msg/s in all", 36),
    Paced("q1-paced", "QoS 1, 100 devices, 5,000 msg/s in all", 58, qos=1, latency=True),
    PacedCrowd("q1-paced-1000", "the same, 1,000 connections", connections=1_000, qos=1, latency=True),
    PacedCrowd(
        "q1-paced-10000",
        "the same, 10,000 connections",
        connections=10_000,
        qos=1,
        latency=True,
        by_name=True,
    ),
    FanOut("fan-out", "fan-out to 100 TLS subscribers, a delivery", 5),
    Sealing("seal", "sealing a 256 B payload, in addition", 5),
    Sealing("seal-4k", "sealing a 4 KiB payload, in addition", size=4096),
    Calling("encrypt", "encrypt call, 20 in flight each"),
    Calling("decrypt", "decrypt call, 20 in flight each", service="decrypt"),
    Calling("bus-encrypt", "encrypt call over the bus, 20 in flight each", over_bus=True),
    Calling("bus-decrypt", "decrypt call over the bus, 20 in flight each", service="decrypt", over_bus=True),
    Paced(
        "q1-1000", "QoS 1, 10 devices, 1,000 msg/s in all", connections=10, in_all=1_000, qos=1, latency=True
    ),
    PacedCalling("encrypt-1000", "encrypt call, 10 callers, 1,000/s in all"),
    PacedCalling("decrypt-1000", "decrypt call, 10 callers, 1,000/s in all", service="decrypt"),
    PacedCalling("bus-encrypt-1000", "encrypt call over the bus, 1,000/s in all", over_bus=True),
    PacedCalling(
        "bus-decrypt-1000", "decrypt call over the bus, 1,000/s in all", service="decrypt", over_bus=True
    ),
    PolicyChange("policy-change", "longest wait of 2,000 connections while 5,000 rules change", 100),
)

PEERS: dict[str, type[Peer]] = {
    peer.name.lower(): peer
    for peer in (Gateway, Observed, Unobserved, HAProxy, Nginx, Relay, Mosquitto, Aedes, Amqtt)
}
