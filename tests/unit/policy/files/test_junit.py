"""The report that continuous integration reads."""

from __future__ import annotations

from xml.etree.ElementTree import fromstring

from gateway.policy.files.invariants import check_invariants
from gateway.policy.files.junit import report
from gateway.policy.files.loader import read_policy
from gateway.policy.files.policy_tests import load_cases, run_cases

CASE = '[[case]]\ndevice = "lamp-1"\nroles = ["sensor"]\naction = "publish"\ntopic = "{}"\nexpected = "{}"\n'


def written(acl):
    policy, invariants = read_policy(acl, reserved="gateway")
    return fromstring(
        report(run_cases(policy, load_cases(acl, policy)), check_invariants(policy, invariants))
    )


def test_every_case_and_invariant_is_told_and_what_fails_with_its_reason(acl):
    (acl / "cases.toml").write_text(
        CASE.format("devices/lamp-1/telemetry", "allow") + CASE.format("<&\\u0001", "allow")
    )
    (acl / "invariants.toml").write_text(
        "[[invariant]]\nholds = 'no any subscribe #'\n[[invariant]]\nholds = 'no any publish #'\n"
    )
    root = written(acl)
    assert root.tag == "testsuites"
    cases, invariants = root
    assert (cases.get("tests"), cases.get("failures")) == ("2", "1")
    good, bad = cases
    assert (good.get("name"), good.get("line")) == ("lamp-1 publish devices/lamp-1/telemetry", "1")
    assert good.get("classname") == f"{acl}/cases.toml"
    assert len(good) == 0
    # A control character can't be in XML, not even escaped.
    assert bad.get("name") == "lamp-1 publish <&\\u0001"
    assert "denied, expected allow: No rule allows" in bad.find("failure").get("message")
    assert (invariants.get("tests"), invariants.get("failures")) == ("2", "1")
    holds, broken = invariants
    assert len(holds) == 0
    assert broken.get("name") == "no any publish #"
    assert "roles/sensor.toml:5 allows publish" in broken.find("failure").get("message")


def test_nothing_asked_is_nothing_told(acl):
    assert [suite.get("tests") for suite in written(acl)] == ["0", "0"]
