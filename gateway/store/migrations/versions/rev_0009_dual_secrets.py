"""How a device may log in, and the secret that it was given beside the one in use."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give devices their methods, all of them, and room for a second secret, which none has."""
    every = '["secret", "token", "certificate"]'
    op.add_column("devices", sa.Column("methods", sa.JSON, nullable=False, server_default=every))
    op.add_column("devices", sa.Column("next_credential", sa.String, nullable=False, server_default=""))
    op.add_column("devices", sa.Column("overlap_until", sa.BigInteger, nullable=False, server_default="0"))
