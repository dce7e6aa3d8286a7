"""Slow or secret: password hashing, secret values, the small CA. Must not know MQTT."""
