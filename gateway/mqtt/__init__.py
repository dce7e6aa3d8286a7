"""What the bytes mean: MQTT 3.1, 3.1.1 and 5 without I/O.

Owns the wire format. Must not know devices, policy, sockets or time. Only the standard library.
"""
