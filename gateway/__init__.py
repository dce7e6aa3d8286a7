"""An MQTT security gateway: who may come in and say what, before a bus that trusts everybody.

See ARCHITECTURE.md for the picture, and `gateway.connection.device_connection` for the heart of it.
"""
