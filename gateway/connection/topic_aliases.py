"""The topic aliases of one device (MQTT 5, 3.3.2.3.4): what each stands for, and what the bus takes it for.

How many there may be the bus says, and a topic has up to 65,535 bytes: their bytes are bounded here.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.mqtt.errors import LimitExceeded, ProtocolError
from gateway.mqtt.reason_codes import Reason

_BYTES_MAX = 262_144
"""Bytes of the topics that the aliases of one connection stand for."""
_ALIAS_BYTES = 128
"""How many an alias counts beside those of its topic."""


class TopicAliases:
    """Those of one connection, from the device to the bus."""

    __slots__ = ("_size", "_topics", "bus", "most")

    def __init__(self) -> None:
        self.most = 0
        """Topic Alias Maximum of the bus."""
        self.bus: dict[int, bytes] = {}
        """What the bus takes each for. It lacks those whose packet was denied or sealed."""
        self._topics: dict[int, bytes] = {}
        self._size = 0

    @property
    def topics(self) -> Mapping[int, bytes]:
        """What each stands for."""
        return self._topics

    def check(self, alias: int) -> None:
        """Raise ProtocolError for an alias that no packet may have."""
        if alias == 0:
            raise ProtocolError("the topic alias 0")
        if alias > self.most:
            raise ProtocolError("a topic alias out of range", Reason.TOPIC_ALIAS_INVALID)

    def learn(self, alias: int, topic: bytes) -> bool:
        """From now on `alias` stands for `topic`; whether that is news. Raises LimitExceeded."""
        before = self._topics.get(alias)
        if before == topic:
            return False
        self._size += len(topic) - len(before) if before is not None else len(topic) + _ALIAS_BYTES
        if self._size > _BYTES_MAX:
            raise LimitExceeded("topic aliases for longer topics than one connection may have")
        self._topics[alias] = topic
        return True

    def topic(self, alias: int) -> bytes:
        """What it stands for. Raises ProtocolError: for nothing."""
        topic = self._topics.get(alias)
        if topic is None:
            raise ProtocolError("a topic alias that stands for nothing")
        return topic
