"""The audit trail: entries in segments, a Merkle tree over them, signed checkpoints, and who checks them.

Owns `data/audit`. One writer appends (`writer`); anybody may read, verify, prove and export, without a
gateway. Must not know what an entry says: that is `gateway.observe`.
"""
