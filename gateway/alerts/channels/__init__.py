"""The channels: each puts a message into its own words and hands it to one service, or says why not."""
