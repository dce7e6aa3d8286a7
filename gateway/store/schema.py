"""The tables, as SQLAlchemy Core sees them: a new database has them at once, an older one by `migrations/`.

A test compares both.

Types are kept to those that SQLite and PostgreSQL share, times are Unix seconds.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

metadata = MetaData()

devices = Table(
    "devices",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("roles", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("credential", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("token_epoch", BigInteger, nullable=False, server_default="0"),
    Column("observe_until", BigInteger, nullable=False, server_default="0"),
    Column("methods", JSON, nullable=False, server_default='["secret", "token", "certificate"]'),
    Column("next_credential", String, nullable=False, server_default=""),
    Column("overlap_until", BigInteger, nullable=False, server_default="0"),
)

# The change log that a running gateway follows. Written in the transaction of its change.
# AUTOINCREMENT: a number is never given twice, though old rows are pruned.
changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("device_id", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Index("changes_at", "at"),
    sqlite_autoincrement=True,
)

# How often a sealing key was used: bounded well below 2^32 (NIST SP 800-38D, 8.3).
key_uses = Table(
    "key_uses",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("uses", BigInteger, nullable=False),
)

# What was issued and has not expired: for people to see and revoke. No decision is made by it.
tokens = Table(
    "tokens",
    metadata,
    Column("token_id", String(64), primary_key=True),
    Column("device_id", String(64), nullable=False),
    Column("root", String(64), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("source", String(16), nullable=False),
    Index("tokens_device", "device_id", "issued_at"),
    Index("tokens_expires_at", "expires_at"),
)

# By chain, not by token: whoever holds a revoked token may have renewed it.
token_revocations = Table(
    "token_revocations",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("root", String(64), primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
)

# What gateway-admin did, until a running gateway has reported it.
admin_events = Table(
    "admin_events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("event", JSON, nullable=False),
    sqlite_autoincrement=True,
)

# What the store knows of each node's audit trail: its newest checkpoint, which administrators' events are in
# it for certain, and why it can't be written.
audit_trails = Table(
    "audit_trails",
    metadata,
    Column("node", String(64), primary_key=True),
    Column("note", String, nullable=False, server_default=""),
    Column("looked_through", BigInteger, nullable=False, server_default="0"),
    Column("fault", String, nullable=False, server_default=""),
    Column("fault_at", BigInteger, nullable=False, server_default="0"),
)

# What devices did and were refused, by topic template. No decision is made by it. The table's name is older
# than the word usage, and has nothing to do with the observe mode of a device.
usage_records = Table(
    "observations",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("action", String(16), primary_key=True),
    Column("template", String, primary_key=True),
    Column("passage", String(16), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Index("observations_last_at", "last_at"),
)

# Refusals by the id in their audit line, for whoever asks why.
refusals = Table(
    "refusals",
    metadata,
    Column("refusal_id", String(16), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("device_id", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("topic", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("rule", String, nullable=False),
    Index("refusals_at", "at"),
    Index("refusals_device", "device_id", "at"),
)

# What devices hold on the bus, as hashes: the retained topics of each in one row, and a row for each session.
holdings = Table(
    "holdings",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("key", BigInteger, primary_key=True),
    Column("lifetime", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("keys", LargeBinary, nullable=False),
)

# What was measured: a row per moment with all values packed, and the series that they belong to.
history = Table(
    "history",
    metadata,
    Column("step", Integer, primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)
history_series = Table(
    "history_series",
    metadata,
    Column("series_id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("labels", JSON, nullable=False),
)

# Who was refused lately; refusals that are alike are one row.
refused_clients = Table(
    "refused_clients",
    metadata,
    Column("device_id", String(80), primary_key=True),
    Column("host", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("reason", String(300), primary_key=True),
    Column("proven", Boolean, nullable=False),
    Column("action", String(16), nullable=False),
    Column("topic", String, nullable=False),
    Column("rule", String, nullable=False),
    Column("refusal_id", String(16), nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Index("refused_clients_last_at", "last_at"),
)

# The alerts that are pending, firing, or over and may come again. A row per rule and labels (JSON).
alert_states = Table(
    "alert_states",
    metadata,
    Column("rule", String(64), primary_key=True),
    Column("labels", String, primary_key=True),
    Column("phase", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("summary", String, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("value", Float, nullable=False),
    Column("times", Integer, nullable=False),
    Column("told", Boolean, nullable=False),
)

# What is still to be delivered, by channel.
alert_messages = Table(
    "alert_messages",
    metadata,
    Column("message_id", String(64), primary_key=True),
    Column("channel", String(64), primary_key=True),
    Column("body", String, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

silences = Table(
    "silences",
    metadata,
    Column("silence_id", String(16), primary_key=True),
    Column("rule", String(64), nullable=False),
    Column("labels", String, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("comment", String, nullable=False),
    Column("actor", String, nullable=False),
)
