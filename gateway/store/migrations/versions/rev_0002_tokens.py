"""Tokens that were issued and that were revoked, and what the command line has for a running gateway."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give devices a token epoch, and make the three tables."""
    # No token was ever issued to the devices that are there: they may all begin with the same epoch.
    op.add_column("devices", sa.Column("token_epoch", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(64), primary_key=True),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("root", sa.String(64), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
    )
    op.create_index("tokens_device", "tokens", ["device_id", "issued_at"])
    op.create_index("tokens_expires_at", "tokens", ["expires_at"])
    op.create_table(
        "token_revocations",
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("root", sa.String(64), primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "admin_events",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("event", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
