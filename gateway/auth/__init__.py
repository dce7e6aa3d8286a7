"""One gate for every login, by secret, token or certificate: who waits for a hash, who is throttled."""
