"""Alerts: rules and their conditions, what fires, who hears of it and how, what is silenced."""
