"""The topic aliases of one connection (MQTT 5, 3.3.2.3.4): what each means to the device, and to the bus.

The bus says how many there may be, and a topic has up to 65,535 bytes: their bytes are bounded here.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.mqtt.errors import LimitExceeded, ProtocolError
from gateway.mqtt.reason_codes import Reason

_BYTES_MAX = 262_144
"""Bytes of the topics that the aliases of one connection stand for."""
_ALIAS_BYTES = 128
"""Bytes counted for each alias beside those of its topic."""


class TopicAliases:
    """The aliases of one connection, from the device to the bus."""

    __slots__ = ("_size", "_topics", "alias_max", "bus")

    def __init__(self) -> None:
        self.alias_max = 0
        """Topic Alias Maximum of the bus."""
        self.bus: dict[int, bytes] = {}
        """The topic that each stands for on the bus, which lacks those of denied or sealed packets."""
        self._topics: dict[int, bytes] = {}
        self._size = 0

    @property
    def topics(self) -> Mapping[int, bytes]:
        """The topic that each stands for, as the device sent it."""
        return self._topics

    def check(self, alias: int) -> None:
        """Raise ProtocolError for an alias that no packet may have."""
        if alias == 0:
            raise ProtocolError("the topic alias 0")
        if alias > self.alias_max:
            raise ProtocolError("a topic alias out of range", Reason.TOPIC_ALIAS_INVALID)

    def learn(self, alias: int, topic: bytes) -> bool:
        """From now on `alias` stands for `topic`; whether it did not before. Raises LimitExceeded."""
        before = self._topics.get(alias)
        if before == topic:
            return False
        self._size += len(topic) - len(before) if before is not None else len(topic) + _ALIAS_BYTES
        if self._size > _BYTES_MAX:
            raise LimitExceeded("topic aliases for longer topics than one connection may have")
        self._topics[alias] = topic
        return True

    def topic(self, alias: int) -> bytes:
        """The topic that it stands for. Raises ProtocolError if there is none."""
        topic = self._topics.get(alias)
        if topic is None:
            raise ProtocolError("a topic alias that stands for nothing")
        return topic
