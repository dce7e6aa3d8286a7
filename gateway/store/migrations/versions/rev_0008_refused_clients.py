"""Who was refused lately, from where, why and how often."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "refused_clients",
        sa.Column("device_id", sa.String(80), primary_key=True),
        sa.Column("host", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("reason", sa.String(300), primary_key=True),
        sa.Column("proven", sa.Boolean, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("rule", sa.String, nullable=False),
        sa.Column("refusal_id", sa.String(16), nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.create_index("refused_clients_last_at", "refused_clients", ["last_at"])
