"""An MQTT security gateway: the door and the law before a Mosquitto bus that trusts everybody.

See ARCHITECTURE.md for the picture, and `gateway.connection.device_connection` for the heart of it.
"""
