"""The database: schema, migrations, devices and their changes. The data path never waits for it."""
