"""What is counted and measured is scraped and sampled, and no label holds what a peer chose."""

from dataclasses import fields

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.connection.audit_vocabulary import Kind, Outcome
from gateway.connection.bus_holdings import Kind as Holding
from gateway.connection.process_counters import FROM_DEVICES, TO_DEVICES, Counters
from gateway.mqtt.reason_codes import Reason
from gateway.observe import metric_catalogue
from gateway.observe.metrics import Histogram, Metrics, collector_registry
from gateway.policy.engine.device_limits import CountedLimit
from gateway.policy.engine.service_names import Service


def scrape(metrics):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(collector_registry(metrics)).decode())
        for sample in family.samples
    }


def test_every_plain_counter_is_scraped_as_it_stands_now():
    counters = Counters()
    metrics = Metrics(counters)
    plain = [item.name for item in fields(Counters) if item.type == "int"]
    assert {"sealed", "audit_suppressed", "logins_refused"} <= set(plain)
    for number, name in enumerate(plain, start=1):
        setattr(counters, name, number)
    samples = scrape(metrics)
    for number, name in enumerate(plain, start=1):
        assert samples[f"gateway_{name}_total", ()] == number
    counters.sealed += 1
    assert scrape(metrics)["gateway_sealed_total", ()] == counters.sealed


def test_refusals_are_labelled_by_reason_and_audit_events_by_kind_and_outcome():
    counters = Counters()
    counters.connections_refused[Reason.SERVER_BUSY] += 2
    counters.audit_events[Kind.LOGIN, Outcome.REFUSED] += 3
    counters.logins["token", "accepted"] += 4
    samples = scrape(Metrics(counters))
    assert samples["gateway_connections_refused_total", (("reason", "server_busy"),)] == 2
    assert samples["gateway_audit_events_total", (("kind", "login"), ("outcome", "refused"))] == 3
    assert samples["gateway_logins_total", (("method", "token"), ("outcome", "accepted"))] == 4


def test_what_is_counted_by_a_label_of_known_values_begins_with_0():
    """Else the first that happens is no increase to Prometheus, and no alert."""
    counters = Counters()
    counters.limits_reached[CountedLimit.PACKET_SIZE] += 1
    samples = scrape(Metrics(counters))
    for name, label, values in (
        ("limits_reached", "limit", CountedLimit),
        ("holdings_refused", "kind", Holding),
        ("service_requests", "service", Service),
    ):
        for value in values:
            expected = 1 if value is CountedLimit.PACKET_SIZE else 0
            assert samples[f"gateway_{name}_total", ((label, value.name.lower()),)] == expected
    for direction in (FROM_DEVICES, TO_DEVICES):
        assert samples["gateway_messages_ended_total", (("direction", direction),)] == 0


def test_no_metric_is_labelled_by_what_a_peer_chose():
    metrics = metric_catalogue.catalogue().values()
    labels = {label for metric in metrics if not metric.name.startswith("device_") for label in metric.labels}
    assert not labels & {"topic", "client_id", "client", "device", "device_id", "address", "user", "username"}


def test_gauges_are_asked_at_each_scrape():
    metrics, open_now = Metrics(Counters()), [1]
    metrics.read(connections=lambda: open_now[0])
    assert scrape(metrics)["gateway_connections", ()] == 1
    open_now[0] = 5
    assert scrape(metrics)["gateway_connections", ()] == 5


def test_what_there_is_no_number_of_is_not_there():
    metrics = Metrics(Counters())
    metrics.read(tokens_valid=lambda: None, devices=dict)
    assert not {name for name, _ in scrape(metrics)} & {"gateway_tokens_valid", "gateway_devices"}
    assert "tokens_valid" not in metrics.samples()


def test_a_metric_that_can_not_be_read_takes_no_other_away():
    metrics = Metrics(Counters())

    def broken():
        raise RuntimeError("a fault of ours")

    metrics.read(connections=broken, bus_reachable=lambda: True)
    samples = scrape(metrics)
    assert samples["gateway_bus_reachable", ()] == 1
    assert ("gateway_connections", ()) not in samples


def test_a_name_that_is_not_in_the_catalogue_is_a_fault_of_ours():
    metrics = Metrics(Counters())
    with pytest.raises(KeyError):
        metrics.read(conections=lambda: 1)
    with pytest.raises(KeyError):
        metrics.read(argon2_seconds=lambda: 1)
    with pytest.raises(KeyError):
        metrics.read(connections=Histogram(1))


def test_a_histogram_counts_what_is_no_longer_than_each_bound():
    metrics, took = Metrics(Counters()), Histogram(0.1, 1.0)
    metrics.read(argon2_seconds=took)
    for seconds in (0.05, 0.1, 0.5, 7):
        took.observe(seconds)
    samples = scrape(metrics)
    below = {
        labels: value for (name, labels), value in samples.items() if name.endswith("argon2_seconds_bucket")
    }
    assert below == {(("le", "0.1"),): 2, (("le", "1"),): 3, (("le", "+Inf"),): 4}
    assert samples["gateway_argon2_seconds_sum", ()] == pytest.approx(7.65)
    assert samples["gateway_argon2_seconds_count", ()] == took.count == 4


def test_the_process_is_measured_too():
    assert scrape(Metrics(Counters()))["process_resident_memory_bytes", ()] > 0


def test_the_history_gets_the_same_numbers_without_the_prefix():
    counters, took = Counters(), Histogram(1.0)
    metrics = Metrics(counters)
    counters.logins["token", "accepted"] += 4
    took.observe(0.5)
    metrics.read(
        argon2_seconds=took, cpu_percent=lambda: 17, connections_established=lambda: {("5", "token"): 3}
    )
    samples = metrics.samples()
    assert samples["logins_total"] == {(("method", "token"), ("outcome", "accepted")): 4}
    assert samples["connections_established"] == {(("protocol", "5"), ("login", "token")): 3}
    assert samples["argon2_seconds_count"] == {(): 1}
    assert samples["argon2_seconds_sum"] == {(): 0.5}
    assert samples["cpu_percent"] == {(): 17}
    assert samples["process_resident_memory_bytes"][()] > 0
    assert not [name for name, _ in scrape(metrics) if "percent" in name]


def test_all_that_is_sampled_is_known_before():
    metrics = Metrics(Counters())
    assert metrics.samples().keys() <= metric_catalogue.readings().keys()
    assert metric_catalogue.readings()["service_status"].words == {"up": 1, "degraded": 0.5, "down": 0}
