"""Packet identifiers of QoS 2 whose handshake ends in the gateway: those that a connection has to remember.

Most connections remember none, and share one empty set: each of its own would take 216 bytes. Where there are
thousands one more costs no copy of the others.
"""

from __future__ import annotations

from typing import TypeAlias

from gateway.connection.process_context import NONE

PacketIds: TypeAlias = frozenset[int] | set[int]


def with_id(ids: PacketIds, packet_id: int) -> PacketIds:
    """`ids` and this one: to be used in the place of `ids`, which may have changed."""
    if isinstance(ids, frozenset):
        return {packet_id}
    ids.add(packet_id)
    return ids


def without_id(ids: PacketIds, packet_id: int) -> PacketIds:
    """`ids` less this one, likewise."""
    if isinstance(ids, frozenset):
        return ids
    ids.discard(packet_id)
    return ids or NONE
