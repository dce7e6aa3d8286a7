"""What can go wrong with the store, said in words an operator can act on.

The messages are shown by the command line and logged by the gateway: they name files and devices, and
never a credential nor a database password.
"""

from __future__ import annotations


class StoreError(Exception):
    """Any failure of the database. Whoever decides about access denies it (promise 1)."""


class UnknownDevice(StoreError):
    """No device has this id."""

    def __init__(self, device_id: str) -> None:
        super().__init__(
            f"there is no device {device_id!r}; `gateway-admin device list` shows those there are"
        )
        self.device_id = device_id


class DeviceExists(StoreError):
    """A device with this id is there already."""

    def __init__(self, device_id: str) -> None:
        super().__init__(
            f"device {device_id!r} exists already; `gateway-admin device rotate {device_id}` gives it a new "
            "secret, `device remove` takes it away"
        )
        self.device_id = device_id


class InvalidValue(StoreError, ValueError):
    """What was to be stored may not be: the caller should have asked first."""


class EventNotKept(StoreError):
    """What an administrator wanted is not done, for the audit trail would not know of it."""

    def __init__(self, why: str) -> None:
        super().__init__(f"nothing was changed, for the audit event of it can't be kept: {why}")
