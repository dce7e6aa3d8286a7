"""The gateways that are watched in every way and in none: their files are good, and say just that."""

from pathlib import Path

import pytest

from bench.observability_overhead import Observed, Unobserved
from bench.peers import Certificate, Gateway
from bench.plan import PEERS
from gateway.alerts.shipped_rules import SHIPPED
from gateway.config.monitoring import load_monitoring


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A peer, but for its gateway."""
    monkeypatch.setattr(Gateway, "start", lambda peer: setattr(peer, "seen", peer.settings()))
    peers = []

    def start(kind):
        peers.append(kind(tmp_path / kind.name, Certificate(tmp_path)))
        peers[-1].start()
        return peers[-1], load_monitoring(Path(peers[-1].seen["MONITORING_PATH"]))

    yield start
    for peer in peers:
        peer.stop()


def test_with_all_on_there_is_every_rule_a_channel_and_each_kind_of_check(started):
    _, found = started(Observed)
    assert {rule.name for rule in found.rules} == {rule.name for rule in SHIPPED}
    assert len(found.channels) == 1
    assert len({type(check) for check in found.checks}) == 3
    assert len(found.metrics_of_devices) == 50


def test_with_all_off_there_is_no_rule_and_no_metric(started):
    peer, found = started(Unobserved)
    assert (found.rules, found.channels, found.checks, found.metrics_of_devices) == ((), (), (), ())
    assert peer.seen["METRICS_ENABLED"] == "false"


def test_they_run_only_by_their_names():
    assert [name for name, peer in PEERS.items() if peer.by_name] == [
        "gateway-observed",
        "gateway-unobserved",
        "relay",
    ]
