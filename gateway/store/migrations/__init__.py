"""How the tables came to be, one file a step. Run by `gateway.store.engine` when a store is opened."""
