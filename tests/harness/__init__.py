"""Real parts for the tests: Mosquitto, the gateway as its own process, raw MQTT clients."""
