"""The channels: each writes a message in the form of one service and hands it over, or says why it can't."""
