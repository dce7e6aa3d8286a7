"""What we allow and what we change, without I/O.

Events in, commands out: `gateway.core.bridge.Bridge` is one device connection that can be held
without a socket, a clock or a file. Time, randomness and keys are arguments.
"""
