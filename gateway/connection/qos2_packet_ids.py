"""Sets of packet identifiers: those at QoS 2 whose handshake ends in the gateway, which has to remember them.

Most connections remember none, and share one empty frozenset: an own set would take 216 bytes. A set with
members is changed in place, so that adding one to thousands copies nothing.
"""

from __future__ import annotations

from typing import TypeAlias

from gateway.connection.process_context import EMPTY_SET

PacketIds: TypeAlias = frozenset[int] | set[int]


def with_id(ids: PacketIds, packet_id: int) -> PacketIds:
    """`ids` with this one added. Use the result in place of `ids`, which may have changed."""
    if isinstance(ids, frozenset):
        return {packet_id}
    ids.add(packet_id)
    return ids


def without_id(ids: PacketIds, packet_id: int) -> PacketIds:
    """`ids` without this one, likewise."""
    if isinstance(ids, frozenset):
        return ids
    ids.discard(packet_id)
    return ids or EMPTY_SET
