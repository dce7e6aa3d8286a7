"""Of what devices did and were refused: allowed, observed or refused, in the place of allowed or not."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table anew, for SQLite changes no primary key, and keep its rows.

    What was not allowed counts as refused: that some of it passed, for its device was observed, is not known.
    """
    op.drop_index("observations_last_at", "observations")
    op.rename_table("observations", "observations_before")
    op.create_table(
        "observations",
        sa.Column("device_id", sa.String(64), primary_key=True),
        sa.Column("action", sa.String(16), primary_key=True),
        sa.Column("template", sa.String, primary_key=True),
        sa.Column("passage", sa.String(16), primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO observations (device_id, action, template, passage, count, first_at, last_at)"
        " SELECT device_id, action, template, CASE WHEN allowed THEN 'allowed' ELSE 'refused' END,"
        " count, first_at, last_at FROM observations_before"
    )
    op.drop_table("observations_before")
    op.create_index("observations_last_at", "observations", ["last_at"])
