"""Puts the parts together, starts and stops them, and runs what goes on in the background."""
