"""One device connection without I/O: events in, commands out.

`device_connection.DeviceConnection` can be made and used without a socket, a clock or a file. Time,
randomness and keys are arguments.
"""
