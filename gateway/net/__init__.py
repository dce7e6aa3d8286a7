"""The only sockets of the data path, and the only tasks.

Thin: what a byte means and what is allowed is decided in `gateway.connection`; here commands are carried
out and errors of the operating system become events.
"""
