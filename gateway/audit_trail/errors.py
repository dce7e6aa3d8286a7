"""What can be wrong with the trail, in words for whoever runs the gateway."""

from __future__ import annotations

NO_CHECKPOINT = "there is no checkpoint yet: a running gateway signs one within a minute of an event"


class TrailError(OSError):
    """The trail can't be written or read now. The text says where, why and what to do."""


class TrailDamaged(TrailError):
    """The trail is not what was signed: nothing is appended to it, or the fault would be hidden."""
