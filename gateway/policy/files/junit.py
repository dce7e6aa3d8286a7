"""The results of the policy's own tests as JUnit XML, which continuous integration systems read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

from gateway.policy.files.invariants import Outcome
from gateway.policy.files.policy_tests import CaseResult

# Characters that XML 1.0 does not allow (2.2), but a topic may contain.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def report(results: Iterable[CaseResult], outcomes: Iterable[Outcome]) -> bytes:
    """The XML file: one suite with the cases, and one with the invariants."""
    root = Element("testsuites", name="acl")
    cases = _suite(root, "cases")
    for result in results:
        case = result.case
        name = f"{case.identity.device_id} {case.action} {case.topic}"
        _case(cases, name, case.file, case.line, "" if result.passed else str(result))
    invariants = _suite(root, "invariants")
    for outcome in outcomes:
        invariant = outcome.invariant
        _case(invariants, invariant.assertion.text, invariant.file, invariant.line, outcome.problem)
    for suite in (cases, invariants):
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(len(suite.findall("testcase/failure"))))
        suite.set("errors", "0")
    written: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return written


def _suite(root: Element, name: str) -> Element:
    return SubElement(root, "testsuite", name=name)


def _case(suite: Element, name: str, file: str, line: int, problem: str) -> None:
    one = SubElement(
        suite, "testcase", classname=_text(file), name=_text(name), file=_text(file), line=str(line)
    )
    if problem:
        SubElement(one, "failure", type="policy", message=_text(problem))


def _text(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
