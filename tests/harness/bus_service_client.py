"""A service of somebody else's, straight on the bus: paho-mqtt, in either version."""

from __future__ import annotations

import json
import queue
import uuid
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


@dataclass(frozen=True)
class Heard:
    """A message as it arrived."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    correlation: bytes | None

    @property
    def fields(self) -> dict[str, Any]:
        return json.loads(self.payload)


class Caller:
    """Connected to a bus and subscribed to what it is told; `heard` are messages in their order."""

    def __init__(
        self, port: int, *filters: str, v5: bool = True, qos: int = 1, prefix: str = "gateway"
    ) -> None:
        """Without `filters`: the four response topics and all reply topics.

        At QoS 0 Mosquitto keeps a thousand retained messages and more for it.
        """
        self.v5 = v5
        self.prefix = prefix
        self.heard: queue.Queue[Heard] = queue.Queue()
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            f"caller-{uuid.uuid4()}",
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
        )
        self._client.on_message = self._take
        ready: queue.Queue[object] = queue.Queue()
        self._client.on_connect = lambda *_: ready.put("connected")
        self._client.on_subscribe = lambda *_: ready.put("subscribed")
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        ready.get(timeout=10)
        services = ("auth", "validate", "encrypt", "decrypt")
        wanted = filters or (f"{prefix}/reply/#", *(f"{prefix}/{name}_response" for name in services))
        self._client.subscribe([(one, qos) for one in wanted])
        ready.get(timeout=10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: object, _userdata: object, message: paho.MQTTMessage) -> None:
        if message.topic.startswith(f"{self.prefix}/check/"):
            return  # the gateway's question whether the bus serves
        correlation = getattr(message.properties, "CorrelationData", None) if self.v5 else None
        self.heard.put(Heard(message.topic, message.payload, message.qos, message.retain, correlation))

    def send(
        self,
        topic: str,
        payload: bytes = b"",
        *,
        qos: int = 1,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
        user: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Publish, and wait until the bus has it."""
        properties = None
        if self.v5:
            properties = Properties(PacketTypes.PUBLISH)
            if response_topic is not None:
                properties.ResponseTopic = response_topic
            if correlation is not None:
                properties.CorrelationData = correlation
            for pair in user:
                properties.UserProperty = pair
        self._client.publish(topic, payload, qos, retain, properties).wait_for_publish(20)

    def hear(self, seconds: float = 15.0) -> Heard:
        """The next message. Raises queue.Empty."""
        return self.heard.get(timeout=seconds)

    def ask(self, service: str, request: bytes | dict[str, Any], **options: Any) -> Heard:
        """Send a request, and hear what comes next."""
        payload = request if isinstance(request, bytes) else json.dumps(request).encode()
        self.send(f"{self.prefix}/{service}", payload, **options)
        return self.hear()

    def token(self, device_id: str, secret: str) -> str:
        """Ask for a token."""
        answer = self.ask("auth", {"device_id": device_id, "credentials": {"secret": secret}})
        return str(answer.fields["token"])
