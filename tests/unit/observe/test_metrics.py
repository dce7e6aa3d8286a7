"""Every counter is readable, and no label holds what a peer chose."""

from dataclasses import fields

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.connection.audit_event_kinds import Kind, Outcome
from gateway.connection.process_counters import Counters
from gateway.mqtt.reason_codes import Reason
from gateway.observe.metrics import Gauge, collector_registry


def scrape(own):
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(generate_latest(own).decode())
        for sample in family.samples
    }


def test_every_plain_counter_is_scraped_as_it_stands_now():
    counters = Counters()
    own = collector_registry(counters, {})
    plain = [item.name for item in fields(Counters) if item.type == "int"]
    assert {"sealed", "audit_suppressed", "logins_refused"} <= set(plain)
    for number, name in enumerate(plain, start=1):
        setattr(counters, name, number)
    samples = scrape(own)
    for number, name in enumerate(plain, start=1):
        assert samples[f"gateway_{name}_total", ()] == number
    counters.sealed += 1
    assert scrape(own)["gateway_sealed_total", ()] == counters.sealed


def test_refusals_are_labelled_by_reason_and_audit_events_by_kind_and_outcome():
    counters = Counters()
    counters.connections_refused[Reason.SERVER_BUSY] += 2
    counters.audit_events[Kind.LOGIN, Outcome.REFUSED] += 3
    samples = scrape(collector_registry(counters, {}))
    assert samples["gateway_connections_refused_total", (("reason", "server_busy"),)] == 2
    assert samples["gateway_audit_events_total", (("kind", "login"), ("outcome", "refused"))] == 3


def test_the_only_labels_are_our_own_enums():
    counters = Counters()
    counters.connections_refused[Reason.SERVER_BUSY] += 1
    counters.audit_events[Kind.LOGIN, Outcome.DONE] += 1
    labels = {name for _, labels in scrape(collector_registry(counters, {})) for name, _ in labels}
    assert labels == {"reason", "kind", "outcome"}


def test_gauges_are_asked_at_each_scrape():
    open_now = [1]
    own = collector_registry(
        Counters(), {"connections_current": Gauge("Open connections.", lambda: open_now[0])}
    )
    assert scrape(own)["gateway_connections_current", ()] == 1
    open_now[0] = 5
    assert scrape(own)["gateway_connections_current", ()] == 5


def test_the_process_is_measured_too():
    assert scrape(collector_registry(Counters(), {}))["process_resident_memory_bytes", ()] > 0
