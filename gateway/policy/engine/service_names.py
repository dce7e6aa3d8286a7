"""The names of the gateway's services (see `gateway.services`)."""

from __future__ import annotations

from enum import StrEnum

CHECKS = "/check/"
"""Follows the service prefix in the topics of `gateway.bus_client.probe`, which checks the bus by publishing
to itself."""


class Service(StrEnum):
    """A service, by the last level of its request topic: `<prefix>/auth` and so on."""

    AUTH = "auth"
    VALIDATE = "validate"
    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
