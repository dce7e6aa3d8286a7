"""What the store knows of each node's audit trail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "audit_trails",
        sa.Column("node", sa.String(64), primary_key=True),
        sa.Column("note", sa.String, nullable=False, server_default=""),
        sa.Column("looked_through", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("fault", sa.String, nullable=False, server_default=""),
        sa.Column("fault_at", sa.BigInteger, nullable=False, server_default="0"),
    )
