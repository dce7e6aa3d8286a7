"""What devices did and were refused, the refusals themselves, and until when a device is observed."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give devices the time until when they are observed, and make the two tables."""
    op.add_column("devices", sa.Column("observe_until", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "observations",
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("action", sa.String(16), primary_key=True),
        sa.Column("template", sa.String, primary_key=True),
        sa.Column("allowed", sa.Boolean, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )
    op.create_index("observations_last_at", "observations", ["last_at"])
    op.create_table(
        "refusals",
        sa.Column("refusal_id", sa.String(16), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("rule", sa.String, nullable=False),
    )
    op.create_index("refusals_at", "refusals", ["at"])
    op.create_index("refusals_device", "refusals", ["device_id", "at"])
