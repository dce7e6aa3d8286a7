"""How the tables came to be, one file a step. Run by `gateway.store.database` when a store is opened."""
