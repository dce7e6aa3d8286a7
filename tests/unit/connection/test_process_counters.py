"""Everything counted has a name and a sentence for whoever reads the metrics."""

from __future__ import annotations

import dataclasses
import re

from gateway.connection.process_counters import Counters


def test_every_counter_starts_at_nothing_and_says_what_it_counts():
    fresh = Counters()
    for field in dataclasses.fields(Counters):
        assert not getattr(fresh, field.name)
        assert re.fullmatch(r"[a-z][a-z_]+", field.name)
        assert re.fullmatch(r"[A-Z].*\.", field.metadata["help"])


def test_no_two_share_their_counts():
    one, other = Counters(), Counters()
    one.connections_refused["x"] += 1
    one.sealed += 1
    assert other == Counters()
