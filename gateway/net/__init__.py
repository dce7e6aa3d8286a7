"""The only sockets of the data path, and the only tasks."""
