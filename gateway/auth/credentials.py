"""The credentials that a peer shows, by MQTT, over HTTPS or in a request on the bus, and what came of them.

Must not know how they are checked: `gateway.auth.login` does that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.auth.tokens import looks_like_token
from gateway.mqtt.reason_codes import Reason
from gateway.policy.engine.identity import Device, Grant, is_device_id


class LoginRefused(Exception):
    """`reason` is for the peer; `why` and `device_id` (None: no valid id was claimed) are for our log.

    `vouched`: that id is from a token that we signed, or from a certificate that was shown alone. Any other
    id may be a secret that somebody typed as a user name, so `gateway.auth.login_gate` reports it only if a
    device with this id exists.
    """

    def __init__(self, reason: Reason, why: str, device_id: str | None, *, vouched: bool = False) -> None:
        super().__init__(why)
        self.reason = reason
        self.why = why
        self.device_id = device_id
        self.vouched = vouched


@dataclass(slots=True, kw_only=True)
class Credentials:
    """What a peer shows, by MQTT, over HTTPS or in a request on the bus."""

    username: bytes | None = field(repr=False)
    password: bytes | None = field(repr=False)
    certificate_id: str | None = None
    """The device id in its client certificate ("": it names none). A user name has to be the same."""
    certificate_ends: int | None = None
    """Unix seconds: notAfter of that certificate."""
    certificate_fault: str = ""
    """Why its certificate names no device. Then it is refused, whatever else it shows."""
    token: bytes | None = field(default=None, repr=False)
    """A token that is not sent as the password: by the MQTT 5 authentication method `gateway-jwt`."""

    @property
    def secret(self) -> bytes | None:
        """The password, if there is one. With a certificate or token, an empty password counts as none."""
        given = self.password or (self.certificate_id is None and self.token is None)
        return self.password if given else None

    @property
    def method(self) -> str:
        """What the login is decided by: `token`, `secret`, `certificate`, or `none`."""
        if self.any_token is not None:
            return "token"
        if self.secret is not None:
            return "secret"
        return "none" if self.certificate_id is None else "certificate"

    @property
    def any_token(self) -> bytes | None:
        """The token, if there is one. A password that looks like a token is never taken for a secret."""
        if self.token is not None:
            return self.token
        secret = self.secret
        return secret if secret is not None and looks_like_token(secret) else None

    @property
    def claimed(self) -> str | None:
        """The device id on which user name and certificate agree; None if there is no such valid id."""
        try:
            name = self.username.decode("ascii") if self.username else self.certificate_id
        except UnicodeDecodeError:
            return None
        if name is None or not is_device_id(name) or self.certificate_id not in {None, name}:
            return None
        return name


@dataclass(slots=True)
class Admission:
    """A successful login."""

    device: Device
    grant: Grant | None = None
    """What the token allows, if the login was by token."""
    method: str = field(default="secret", compare=False)
    """`secret`, `token` or `certificate`: for the log."""
    certificate_ends: int | None = field(default=None, compare=False)
    """Unix seconds: until when the login is good, if it was by certificate."""
