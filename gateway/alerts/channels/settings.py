"""What monitoring.toml says of a channel: through what people are notified, and where that is.

Secrets are of the type whose repr is masked. How a channel speaks is for the modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

from gateway.alerts.rules import Severity
from gateway.keys.secret_values import Secret


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """A POST of JSON, signed as Standard Webhooks has it."""

    kind: ClassVar[str] = "webhook"
    name: str
    min_severity: Severity
    url: str = field(repr=False)
    secrets: tuple[Secret, ...]
    """Each signs; there are two while receivers change from one to the other."""
    ca_file: Path | None
    """A CA that is trusted beside the public ones."""


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """An incoming webhook of Slack, whose URL is the secret."""

    kind: ClassVar[str] = "slack"
    name: str
    min_severity: Severity
    url: Secret


@dataclass(frozen=True, slots=True)
class EmailSettings:
    """A mail server that is given the messages, over TLS."""

    kind: ClassVar[str] = "email"
    name: str
    min_severity: Severity
    host: str
    port: int
    starttls: bool
    """Whether TLS begins after the greeting (port 587); else it is there from the first byte (465)."""
    sender: str
    recipients: tuple[str, ...]
    username: str
    """Empty: no login."""
    password: Secret | None
    ca_file: Path | None


@dataclass(frozen=True, slots=True)
class AppriseSettings:
    """Any service that apprise knows. Its URL holds secrets."""

    kind: ClassVar[str] = "apprise"
    name: str
    min_severity: Severity
    url: Secret


ChannelSettings: TypeAlias = WebhookSettings | SlackSettings | EmailSettings | AppriseSettings
