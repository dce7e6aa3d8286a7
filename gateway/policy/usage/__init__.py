"""What devices really did: learned from, replayed, and the rights that nobody used."""
