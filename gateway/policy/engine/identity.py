"""Who is there: the device as stored, the token it may have come with, the identity of one connection.

Device ids are one topic level by construction, so that no identity can widen a rule
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
"""The values of each label by its name: one, or several, as of a satellite that hears two rooms."""
LABEL_VALUES_MAX = 16
"""Values of one label that a device may be given."""
METHODS = ("secret", "token", "certificate")
"""The ways to log in, in the order in which they are shown."""

OBSERVE_MAX = 7 * 86_400
"""How long a device may be observed, in seconds: it has nearly all rights meanwhile."""


def is_observed(until: int, now: float) -> bool:
    """Whether a device that is observed `until` is so `now`, both in Unix seconds.

    An end that is further away than any may be was set by a clock that ran ahead: it is not believed.
    """
    return until - OBSERVE_MAX <= now < until


def is_device_id(text: str) -> bool:
    """Whether `text` may name a device: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`."""
    return _DEVICE_ID.fullmatch(text) is not None


def is_label(name: str, value: str) -> bool:
    """Whether this label may be given to a device."""
    return _LABEL_NAME.fullmatch(name) is not None and _LABEL_VALUE.fullmatch(value) is not None


def labels_of(written: object) -> Labels | None:
    """Labels as they stand in files and in the store: a text, or a list of several; None if they can't be."""
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
    """The other way round, for JSON: one value is a text, several are a list."""
    return {name: some[0] if len(some) == 1 else list(some) for name, some in sorted(labels.items())}


@dataclass(frozen=True, slots=True)
class Revocation:
    """Tokens of one chain that are no longer valid: a token, and all that were renewed from it."""

    root: str
    """`jti` of the first token of the chain."""
    since: int
    """Unix seconds: those of the chain issued then or later are revoked."""
    until: int
    """Unix seconds: when the last of them should have expired. Nothing is decided by it, for clocks jump."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified token says: a narrower set of rights, and an end."""

    token_id: str
    """`jti` (RFC 7519, 4.1.7)."""
    root: str
    """`jti` of the first token of the chain; its own if it is the first."""
    epoch: int | None
    """The device's `token_epoch` when it was issued. None: a different issuer, which has JWT_SECRET too."""
    issued_at: int
    """Unix seconds (`iat`)."""
    expires_at: int
    """Unix seconds (`exp`)."""
    permissions: Mapping[str, tuple[str, ...]]
    """Topic filters by action. An action that is not named is not granted."""
    key_id: str = ""
    """Of the key that signed it (`kid`); empty where the token itself is not at hand, only its record."""
    prior_keys: tuple[str, ...] = ()
    """Ids of other keys, which signed the tokens before it in its chain."""
    narrowed: str = ""
    """Begins the client ids of the sessions on the bus that it may open, where it was narrowed; empty: those
    of its device (`Identity.namespace`)."""
    root_issued_at: int | None = None
    """`issued_at` of the first token of its chain. None: it is the first."""

    @property
    def chain_began(self) -> int:
        """Unix seconds: when its chain did."""
        return self.issued_at if self.root_issued_at is None else self.root_issued_at

    def allows(self, action: str, topic_filter: str) -> bool:
        """Whether one of its filters covers this valid, unshared filter (or topic name)."""
        return covers_any(self.permissions.get(action, ()), topic_filter)

    @property
    def most_filters(self) -> int:
        """How many filters `allows` looks at, at most."""
        return max(map(len, self.permissions.values()), default=0)


@dataclass(frozen=True, slots=True)
class Device:
    """A device as stored. `credential` is an Argon2id hash (PHC format), or an imported one; never shown.

    `version` counts what ends its connections: each change of the secret or of `enabled`.
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
    """Tokens of any other epoch are revoked: it changes with the secret, and when all are revoked."""
    revocations: tuple[Revocation, ...] = ()
    """Those of its tokens, since its epoch is what it is."""
    observe_until: int = 0
    """Unix seconds: until then what the rules refuse passes, and is reported. 0 for never."""
    methods: tuple[str, ...] = METHODS
    """How it may log in: of `METHODS`."""
    next_credential: str = field(default="", repr=False)
    """Of a secret that was given beside the one in use: salt and parameters are those of `credential`."""
    overlap_until: int = 0
    """Unix seconds: until then both secrets are good, or until the next one was used. 0: there is one."""

    @property
    def with_next_secret(self) -> Device:
        """As it is once its next secret was used: the device of the connection that used it."""
        return replace(
            self,
            credential=self.next_credential,
            next_credential="",
            overlap_until=0,
            version=self.version + 1,
        )

    def is_of_version(self, version: int) -> bool:
        """Whether a connection of this version of the device may go on: its secret is still valid."""
        return version == self.version or (bool(self.next_credential) and version == self.version + 1)

    def has_revoked(self, grant: Grant) -> bool:
        """Whether a token of this device is no longer valid."""
        # Without an epoch whatever changes the device ends it.
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
    """Who speaks on one connection, and with what rights it came."""

    device_id: str
    roles: tuple[str, ...]
    labels: Labels
    client_id: str
    """As the device sent it, without the bus's prefix. May hold any character the standard allows."""
    grant: Grant | None = None
    """Of the token it came with: the policy and the token both have to allow."""
    observe_until: int = 0
    """As of its device."""

    @property
    def namespace(self) -> str:
        """What its client id on the bus begins with: no other device's does, nor another narrowed token's.

        A tilde can't stand in a device id. Else a token for one topic, with the client id of its device,
        would take over the device's session and swallow what is queued there.
        """
        narrowed = self.grant.narrowed if self.grant is not None else ""
        return f"{self.device_id}~{narrowed}" if narrowed else self.device_id
