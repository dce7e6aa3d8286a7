"""Who connects: the device as stored, the token it may have logged in with, the identity of one connection.

A device id is always a single topic level, so that none can widen a rule whose `{device}` it fills in
(CVE-2017-7650: a wildcard in a user name).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gateway.mqtt.topics import covers_any

_DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
# A label's value stands for one topic level: no separator, no wildcard, no control character.
_LABEL_VALUE = re.compile(r"[^/+#$\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}")

Labels = Mapping[str, tuple[str, ...]]
"""The values of each label by its name: one, or several, as for a voice assistant that serves two rooms."""
LABEL_VALUES_MAX = 16
"""How many values of one label a device may be given."""
METHODS = ("secret", "token", "certificate")
"""The ways to log in, in the order in which they are shown."""

OBSERVE_MAX = 7 * 86_400
"""How long a device may be observed, in seconds: it has nearly all rights meanwhile."""


def is_observed(until: int, now: float) -> bool:
    """Whether a device that is observed `until` is observed `now`, both in Unix seconds.

    An end further away than any may be was set by a clock that ran ahead: it is ignored.
    """
    return until - OBSERVE_MAX <= now < until


def is_device_id(text: str) -> bool:
    """Whether `text` may name a device: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`."""
    return _DEVICE_ID.fullmatch(text) is not None


def is_label(name: str, value: str) -> bool:
    """Whether this label may be given to a device."""
    return _LABEL_NAME.fullmatch(name) is not None and _LABEL_VALUE.fullmatch(value) is not None


def labels_of(written: object) -> Labels | None:
    """Labels from files or the store, each a string or a list of strings; None if they are invalid."""
    if not isinstance(written, dict):
        return None
    labels: dict[str, tuple[str, ...]] = {}
    for name, value in written.items():
        some = value if isinstance(value, list) else [value]
        if (
            not isinstance(name, str)
            or not 1 <= len(some) <= LABEL_VALUES_MAX
            or len({*map(str, some)}) < len(some)
        ):
            return None
        if not all(isinstance(one, str) and is_label(name, one) for one in some):
            return None
        labels[name] = tuple(some)
    return labels


def written_labels(labels: Labels) -> dict[str, str | list[str]]:
    """The inverse of `labels_of`, for JSON: one value becomes a string, several become a list."""
    return {name: some[0] if len(some) == 1 else list(some) for name, some in sorted(labels.items())}


@dataclass(frozen=True, slots=True)
class Revocation:
    """The tokens of one chain that are revoked: a token, and all that were renewed from it."""

    root: str
    """`jti` of the first token of the chain."""
    since: int
    """Unix seconds: tokens of the chain issued at this time or later are revoked."""
    until: int
    """Unix seconds: when the last of them should have expired. No decision uses it, for clocks jump."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified token allows, and until when."""

    token_id: str
    """`jti` (RFC 7519, 4.1.7)."""
    root: str
    """`jti` of the first token of the chain; its own if it is the first."""
    epoch: int | None
    """The device's `token_epoch` when it was issued. None: issued by another program that has JWT_SECRET."""
    issued_at: int
    """Unix seconds (`iat`)."""
    expires_at: int
    """Unix seconds (`exp`)."""
    permissions: Mapping[str, tuple[str, ...]]
    """Topic filters by action. An action that is not named is not granted."""
    key_id: str = ""
    """Id of the key that signed it (`kid`); empty if this was made from a record, without the token."""
    prior_keys: tuple[str, ...] = ()
    """Ids of the other keys that signed earlier tokens of its chain."""
    narrowed_digest: str = ""
    """Of a narrowed token: digest of its permissions. It is part of the client ids of its sessions on the bus
    (`Identity.namespace`). Empty: it is not narrowed, and opens the sessions of its device."""
    root_issued_at: int | None = None
    """`issued_at` of the first token of its chain. None: it is the first."""

    @property
    def chain_began(self) -> int:
        """When the first token of its chain was issued, in Unix seconds."""
        return self.issued_at if self.root_issued_at is None else self.root_issued_at

    def allows(self, action: str, topic_filter: str) -> bool:
        """Whether one of its filters covers this valid topic name or filter (without `$share/…/`)."""
        return covers_any(self.permissions.get(action, ()), topic_filter)

    @property
    def most_filters(self) -> int:
        """How many filters `allows` compares at most."""
        return max(map(len, self.permissions.values()), default=0)


@dataclass(frozen=True, slots=True)
class Device:
    """A device as stored.

    `credential` is the hash of its secret: Argon2id in PHC format, or one imported from Mosquitto; never
    shown. `version` counts the changes that end its connections: those of the secret and of `enabled`.
    """

    device_id: str
    roles: tuple[str, ...]
    labels: Labels
    enabled: bool
    credential: str = field(repr=False)
    version: int
    created_at: int
    """Unix seconds."""
    updated_at: int
    """Unix seconds."""
    token_epoch: int = 0
    """Tokens of any other epoch are revoked. It changes with the secret, and when all tokens are revoked."""
    revocations: tuple[Revocation, ...] = ()
    """Chains of its tokens that were revoked in the current epoch."""
    observe_until: int = 0
    """Unix seconds: until then, what the rules refuse passes and is reported. 0: it is not observed."""
    methods: tuple[str, ...] = METHODS
    """How it may log in: some of `METHODS`."""
    next_credential: str = field(default="", repr=False)
    """Hash of the next secret, with the salt and parameters of `credential`; empty if there is none."""
    overlap_until: int = 0
    """Unix seconds: both secrets are good until then, or until the next one is used. 0: there is only one."""

    @property
    def with_next_secret(self) -> Device:
        """The device as it will be once its next secret has been used, for the connection that uses it."""
        return replace(
            self,
            credential=self.next_credential,
            next_credential="",
            overlap_until=0,
            version=self.version + 1,
        )

    def is_of_version(self, version: int) -> bool:
        """Whether a connection that was opened at this `version` may stay: its secret is still good."""
        return version == self.version or (bool(self.next_credential) and version == self.version + 1)

    def has_revoked(self, grant: Grant) -> bool:
        """Whether a token of this device is no longer valid."""
        # A token without an epoch ends with any change of its device.
        if grant.epoch is None and grant.issued_at < self.updated_at:
            return True
        if grant.epoch is not None and grant.epoch != self.token_epoch:
            return True
        return bool(self.revocations) and any(
            revocation.root == grant.root and grant.issued_at >= revocation.since
            for revocation in self.revocations
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is at the other end of one connection, and what its rights come from: roles, labels, token."""

    device_id: str
    roles: tuple[str, ...]
    labels: Labels
    client_id: str
    """As the device sent it, without the namespace. May hold any character the standard allows."""
    grant: Grant | None = None
    """From the token that it logged in with; then the policy and the token both have to allow."""
    observe_until: int = 0
    """Unix seconds, as in its `Device`."""
    certificate_ends: int | None = None
    """Unix seconds: notAfter of the client certificate that it logged in with."""

    @property
    def namespace(self) -> str:
        """What its client id on the bus begins with, unlike that of any other device or narrowed token.

        A device id can't contain a tilde. Without the digest, a token for one topic, with the client id of
        its device, would take over the device's session and swallow what is queued there.
        """
        digest = self.grant.narrowed_digest if self.grant is not None else ""
        return f"{self.device_id}~{digest}" if digest else self.device_id
