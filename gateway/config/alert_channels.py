"""The [[channel]] blocks of monitoring.toml, and the files of secrets that they name."""

from __future__ import annotations

import importlib.util
import re
import ssl
from collections.abc import Callable
from pathlib import Path

from gateway.alerts.channels.apprise_channel import HOSTED
from gateway.alerts.channels.settings import (
    AppriseSettings,
    ChannelSettings,
    EmailSettings,
    SlackSettings,
    WebhookSettings,
)
from gateway.alerts.rules import Severity
from gateway.config.secret_files import SecretFileError, read_secret, webhook_secret
from gateway.config.toml_values import cut, host_and_port, one_of, severity_of, url_fault
from gateway.keys.secret_values import Secret
from gateway.policy.files.toml_document import Block
from gateway.system.file_errors import why

_KINDS = ("email", "slack", "webhook", "apprise")
_OF_ANY = ("name", "kind", "min_severity", "secret_file")
_MAIL_ADDRESS = re.compile(r"[^\s@<>,;\x00-\x1f\x7f]+@[^\s@<>,;\x00-\x1f\x7f]+")
_SECRETS_MAX = 2
"""Secrets of a channel: the one in use, and the one that will replace it."""


class ChannelReader:
    """Reads the channels of one file."""

    def __init__(self, folder: Path, *, private: bool) -> None:
        """Names of files are relative to `folder`. `private`: channels may be on the local network."""
        self._folder = folder
        self._private = private
        self.files: list[Path] = []
        """The files that were read."""

    def channel(self, block: Block, name: str) -> ChannelSettings | None:
        """The channel that a block describes; None if there is no such kind."""
        kind = one_of(block, "kind", _KINDS)
        severity = severity_of(block, "min_severity", Severity.INFO)
        if not kind:
            return None
        makers: dict[str, Callable[[Block, str, Severity], ChannelSettings]] = {
            "email": self._email,
            "slack": self._slack,
            "webhook": self._webhook,
            "apprise": self._apprise,
        }
        return makers[kind](block, name, severity)

    def _webhook(self, block: Block, name: str, severity: Severity) -> WebhookSettings:
        block.only(*_OF_ANY, "url", "ca_file")
        url = self._url(block, block.text("url"), "url")
        secrets = self._secrets(
            block,
            webhook_secret,
            "a webhook is signed: name the file of its secret, whsec_ and 24 to 64 bytes as base64; "
            "`echo whsec_$(openssl rand -base64 32)` makes one",
        )
        return WebhookSettings(name, severity, url, secrets, self._ca(block))

    def _slack(self, block: Block, name: str, severity: Severity) -> SlackSettings:
        block.only(*_OF_ANY)
        if "url" in block.values:
            block.problem(
                "the URL of a Slack channel is its secret: put it into a file, secret_file", key="url"
            )
        secrets = self._secrets(block, str, "name the file that holds the URL which Slack gave you", most=1)
        for secret in secrets:
            self._url(block, secret.reveal().decode(), "secret_file")
        return SlackSettings(name, severity, secrets[0] if secrets else Secret(b""))

    def _email(self, block: Block, name: str, severity: Severity) -> EmailSettings:
        block.only(*_OF_ANY, "host", "port", "security", "from", "to", "username", "ca_file")
        host = block.text("host")
        if host and host_and_port(f"{host}:1")[1]:
            block.problem(f'"{host}" is no host name or address', key="host")
        security = one_of(block, "security", ("starttls", "tls"), "starttls")
        port = block.number("port", 465 if security == "tls" else 587, least=1, most=65_535)
        sender = self._mail_address(block, block.text("from"), "from")
        recipients = tuple(self._mail_address(block, one, "to", line) for one, line in block.strings("to"))
        username = block.text("username", "")
        secrets: tuple[Secret, ...] = ()
        if username or "secret_file" in block.values:
            secrets = self._secrets(block, str, "name the file of the password of that user", most=1)
            if not username:
                block.problem("there is a password and no username", key="secret_file")
        return EmailSettings(
            name,
            severity,
            host=host,
            port=port,
            starttls=security != "tls",
            sender=sender,
            recipients=recipients,
            username=username,
            password=secrets[0] if secrets else None,
            ca_file=self._ca(block),
        )

    def _apprise(self, block: Block, name: str, severity: Severity) -> AppriseSettings:
        block.only(*_OF_ANY)
        if importlib.util.find_spec("apprise") is None:
            block.problem("apprise is not installed: pip install 'mqtt-security-gateway[alerts]'", key="kind")
        secrets = self._secrets(block, str, "name the file of the URL, as apprise writes it", most=1)
        schema = secrets[0].reveal().decode().partition("://")[0].lower() if secrets else ""
        if secrets and schema not in HOSTED and not self._private:
            block.problem(
                "where apprise connects to by this URL can't be judged: it needs "
                f"allow_private_addresses = true, unless it is of {', '.join(sorted(HOSTED))}",
                key="secret_file",
            )
        return AppriseSettings(name, severity, secrets[0] if secrets else Secret(b""))

    def _ca(self, block: Block) -> Path | None:
        """The file of a CA that is trusted beside the public ones."""
        if "ca_file" not in block.values:
            return None
        path = self._folder / block.text("ca_file")
        self.files.append(path)
        try:
            ssl.create_default_context(cafile=path)
        except (OSError, ValueError) as error:
            said = why(path, error) if isinstance(error, OSError) else str(error)
            block.problem(f"{path} can't be used ({said}); it must be a readable PEM file", key="ca_file")
        return path

    def _url(self, block: Block, url: str, key: str) -> str:
        private = self._private
        fault = url and url_fault(url, ("https", "http") if private else ("https",))
        if fault:
            block.problem(f"{key}: {fault}", key=key)
        return url

    @staticmethod
    def _mail_address(block: Block, text: str, key: str, line: int | None = None) -> str:
        if text and not (_MAIL_ADDRESS.fullmatch(text) and text.isascii()):
            block.problem(f'"{cut(text)}" is no mail address such as ops@example.org', key=key, line=line)
        return text

    def _secrets(
        self, block: Block, convert: Callable[[str], object], missing: str, most: int = _SECRETS_MAX
    ) -> tuple[Secret, ...]:
        """The secret in the file that `secret_file` names, or in each of a list, as `convert` reads it."""
        value = block.values.get("secret_file")
        if value is None:
            block.problem(f'"secret_file" is missing: {missing}')
            return ()
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names) or not names:
            block.problem('"secret_file" has to be the path of a file', key="secret_file")
            return ()
        if len(names) > most:
            block.problem(f'"secret_file" names {len(names)} files; {most} at most', key="secret_file")
        found = []
        for name in names:
            path = self._folder / name
            self.files.append(path)
            try:
                text = read_secret(path)
                converted = convert(text)
            except SecretFileError as error:
                block.problem(f"{path}: {error}", key="secret_file")
                continue
            found.append(converted if isinstance(converted, Secret) else Secret(text.encode()))
        return tuple(found)
