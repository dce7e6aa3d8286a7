"""Alerts: rules and their conditions, what fires, who is notified and through what, what is silenced."""
