"""What Alembic runs. The connection, and the transaction in which everything happens, come from the caller.

It configures no logging and prints nothing: both belong to the program that opens the store.
"""

from alembic import context

from gateway.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    # The caller's transaction is the only one: all steps are done, or none is.
    transactional_ddl=False,
)
context.run_migrations()
