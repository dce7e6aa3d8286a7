"""The only sockets of the data path, and the only tasks.

Thin: `gateway.connection` decides what bytes mean and what is allowed. Here its commands are carried out, and
what happens on sockets becomes events.
"""
