"""The gateway as an MQTT client of the bus, in its own name: for services, health and commands."""
