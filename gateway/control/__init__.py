"""The control socket: how `gateway-admin` asks a running gateway who is here, and has it act at once.

A Unix socket in the data folder, for the gateway's user and root. "Who is here" are the live connections.
Everything it shows is in memory, and whoever reads it slowly slows down nobody else.
"""
