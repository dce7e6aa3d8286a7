"""Alerts: rules and their conditions, who is told through which channel, and what is silenced."""
