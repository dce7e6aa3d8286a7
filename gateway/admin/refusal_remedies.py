"""What to do about a refusal, in words: found by the reason that the log has.

The reasons are written in other rooms; a test holds that each beginning named here is still one of them.
"""

from __future__ import annotations

import shlex

from gateway.store import RefusedClient

_BY_REASON = (
    ("wrong secret", "give it its secret, or a new one: gateway-admin device rotate {device}"),
    (
        "unknown device",
        "if it is yours: gateway-admin device add ID --role ROLE (its id is the user name it connects with)",
    ),
    ("disabled device", "gateway-admin device enable {device} lets it in again"),
    ("throttled after", "it may try again in a minute; find what sends wrong credentials from {host}"),
    ("busy: ", "it may try again; when it lasts, too many log in at once"),
    ("no answer in time", "it may try again; when it lasts, too many log in at once"),
    (
        "neither password nor certificate",
        "let it connect with its id as the user name and its secret or a token as the password",
    ),
    ("a password without a user name", "let it connect with its id as the user name"),
    ("both a password and a token", "let it send one of the two"),
    ("the user name is not", "let it connect with its id as the user name, or without one"),
    ("the certificate is not", "give it a token of its own: gateway-admin token issue ID"),
    ("expired token", "give it a new one: gateway-admin token issue {device}"),
    ("revoked token", "give it a new one, if it is to come back: gateway-admin token issue {device}"),
    ("not valid yet", "set its clock, and that of the gateway"),
    ("store unavailable", "gateway-admin status says what is wrong with the store"),
    (
        "more connects a minute",
        "look why it connects so often, or raise connects_per_minute in acl/limits.toml",
    ),
    ("as many connections as", "raise connections or connections_per_device in acl/limits.toml"),
    ("others wait", "too many connect at once; nothing, if they come from one place that is not yours"),
    ("no whole CONNECT", "nothing, if it is not yours; else look at its network and its client library"),
    ("TLS: no handshake", "nothing, if it is not yours; else let it speak TLS, and look at its network"),
    ("The device was disabled", "gateway-admin device enable {device} lets it in again"),
    ("The device has a different secret", "give it the new secret"),
    ("The token", "give it a new one: gateway-admin token issue {device}"),
    ("The device has as many sessions", "gateway-admin device held {device} shows what it holds"),
    ("The device has retained messages", "gateway-admin device held {device} shows what it holds"),
    ("The session holds as many subscriptions", "raise subscriptions in acl/limits.toml"),
    ("Sealed, the message has", "raise max_packet_size of the bus"),
)
"""How a reason begins, and what to do."""
_ASKS_POLICY = frozenset({"publish", "subscribe", "encrypt", "decrypt"})


def remedy(client: RefusedClient) -> str:
    """What to do about the refusals of this client; empty if the reason says all there is to say."""
    device = client.device_id if client.proven or ":" not in client.device_id else "ID"
    for beginning, words in _BY_REASON:
        if client.reason.startswith(beginning):
            return words.format(device=device or "ID", host=client.host or "there")
    if client.refusal_id:
        return f"gateway-admin acl why {client.refusal_id} says what would have to change"
    if client.action in _ASKS_POLICY and client.topic and device:
        asked = shlex.join(["gateway-admin", "acl", "why", device, client.action, client.topic])
        return f"{asked} says what would have to change"
    return ""
