"""A proposed role as a file for `acl/roles/`, with comments that say which usage each line comes from.

Topics come from devices and may contain any character, so each is escaped to stay within its string or
comment.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from gateway.policy.engine.policy import Action, Rule
from gateway.policy.engine.rules import OnDeniedWill, OnWideSubscribe
from gateway.policy.engine.topic_generalisation import is_escaped
from gateway.policy.engine.usage_record import UsageRecord
from gateway.policy.files.toml_strings import quoted
from gateway.policy.usage.replay import Conditions
from gateway.policy.usage.role_proposal import Proposal, SummaryByTemplate, UsageSummary
from gateway.system.utc_text import utc_text

_NAMES_SHOWN_MAX = 5
"""Devices, records or values that a comment names."""
_LINES_MAX = 200
"""Lines of one list: a device may be refused any number of topics."""


_OBSERVED = (
    "# No rule of today allows all of this: it passed only because the device was observed. Read each line,",
    "# and strike out what is not needed.",
)


def role_file(proposal: Proposal, title: str, period: str) -> str:
    """The text of the file. `title` says whose role it is, `period` when the usage was recorded."""
    lines = [
        f"# {title}, learned from what {_names(proposal.devices)} did in {period}.",
        f"# It allows {_what(proposal)}, and nothing else. Counts are decisions, one for each topic",
        "# and connection, not messages; they begin with the first time of their line, which may be before",
        "# that. Read it, and save it as roles/<name>.toml; `gateway-admin acl diff` says what it changes.",
        *(f"# {line}" for line in _warnings(proposal)),
        f"description = {quoted(f'{title}, learned from {_names(proposal.devices)}.')}",
    ]
    if proposal.on_wide_subscribe is OnWideSubscribe.FILTER:
        lines += [
            "# They subscribe to more than they may be delivered. Below is what came by meanwhile: if they",
            "# are to have what was silent, too, allow it with wildcards.",
            f'subscribe = "{proposal.on_wide_subscribe}"',
        ]
    if proposal.drops_wills:
        lines.append(f'will = "{OnDeniedWill.DROP}"  # as today: a will that is refused keeps nobody out')
    for (action, conditions), topics in proposal.allows.items():
        lines += ["", "[[allow]]", f'actions = ["{action}"]', *_topics(topics), *_conditions(conditions)]
    for action, topics in proposal.observed.items():
        lines += ["", *_OBSERVED, "[[allow]]", f'actions = ["{action}"]', *_topics(topics)]
    for rule in proposal.denies:
        lines += ["", *_deny(rule)]
    lines += _comments(
        "Passed, but no rule can name it: a level contains a brace, or it would be read as a group (@x).",
        proposal.unwritable,
    )
    lines += _comments(
        "Refused at times, and allowed here: single messages, or before there was a rule, or not observed.",
        proposal.sometimes_refused,
    )
    lines += _refused(proposal)
    lines += _comments(
        "Refused by rules, and not allowed here: a deny says so, or it begins with $, or no rule can say it.",
        proposal.barred,
    )
    return "\n".join([*lines, ""])


def _what(proposal: Proposal) -> str:
    return "what passed and was used" if proposal.observed else "what was allowed and used"


def _warnings(proposal: Proposal) -> Iterator[str]:
    if not proposal.has_rules:
        yield "Nothing was allowed and used: there is no rule to write, and a file without one is no role."
    if proposal.observed:
        yield "Careful: some passed only because the device was observed. Blocks of their own say which."
    if proposal.by_other_roles:
        yield f"Left out: {proposal.by_other_roles} decisions that other roles of these devices allow."
    if proposal.overflow:
        yield f"Not complete: {proposal.overflow} decisions found no room, for the topics were too many."
    if proposal.proposed_in_part:
        some = listed(proposal.proposed_in_part)
        yield f"Careful: of these it allows the part that today's rules allow, used or not: {some}."
    if proposal.without_rule:
        yield f"Careful: it allows what no rule of today allows: {listed(proposal.without_rule)}."
    if proposal.newly_refused:
        yield f"Careful: it refuses what passed when it was recorded: {listed(proposal.newly_refused)}."
    if proposal.newly_allowed:
        yield f"Careful: it allows what was refused when it was recorded: {listed(proposal.newly_allowed)}."


def _topics(topics: SummaryByTemplate) -> Iterator[str]:
    yield "topics = ["
    for topic, summary in topics.items():
        varied = "".join(f"; {text}" for text in _values(topic, summary))
        yield f"  {quoted(topic)},  # {_summary(summary)}{varied}"
    yield "]"


def _values(topic: str, summary: UsageSummary) -> Iterator[str]:
    """For each `+` that the learner put in place of several values: those values."""
    for at, level in enumerate(topic.split("/")):
        if level == "+":
            found = sorted(
                {one.split("/")[at] for one in summary.templates if one.count("/") >= at} - {"+", "#"}
            )
            if found:
                yield f"+ was {_some([quoted(value) for value in found])}"


def _conditions(conditions: Conditions) -> Iterator[str]:
    max_qos, retain, max_payload = conditions
    if max_qos < 2:
        yield f"max_qos = {max_qos}"
    if not retain:
        yield "retain = false"
    if max_payload is not None:
        yield f"max_payload = {max_payload}"


def _deny(rule: Rule) -> Iterator[str]:
    yield f"# As today: {rule.file}:{rule.line}"
    yield "[[deny]]"
    yield f"actions = [{', '.join(quoted(action) for action in sorted(rule.actions))}]"
    yield f"topics = [{quoted(rule.topic)}]"


def _refused(proposal: Proposal) -> Iterator[str]:
    """What was refused, as commented-out blocks, of which single lines can be uncommented."""
    lines_left = _LINES_MAX
    has_heading = False
    for action, topics in sorted(proposal.refused.items()):
        barred = proposal.barred.get(action, {})
        to_show = [(topic, topics[topic]) for topic in sorted(topics) if topic not in barred]
        if not to_show:
            continue
        if not has_heading:
            yield ""
            yield "# Refused, and not allowed here. Uncomment what is needed, and nothing else."
            has_heading = True
        yield "#"
        yield "# [[allow]]"
        yield f'# actions = ["{action}"]'
        yield "# topics = ["
        shown = to_show[: max(lines_left, 1)]  # an empty list would be an error in the file
        lines_left -= len(shown)
        for topic, summary in shown:
            yield f"#   {quoted(topic)},  # {_summary(summary)}"
        if len(to_show) > len(shown):
            yield f"#   # and {len(to_show) - len(shown)} more"
        yield "# ]"


def _comments(title: str, found: Mapping[Action, SummaryByTemplate]) -> Iterator[str]:
    lines = [
        f"#   {action:<9}  {quoted(_plain(topic))}  {_summary(summary)}"
        for action, topics in sorted(found.items())
        for topic, summary in sorted(topics.items())
    ]
    if lines:
        yield ""
        yield f"# {title}"
        yield from lines[:_LINES_MAX]
        if len(lines) > _LINES_MAX:
            yield f"#   and {len(lines) - _LINES_MAX} more"


def _plain(template: str) -> str:
    """A template with literal braces as the device wrote them, without the escapes of `is_escaped`."""
    return "/".join([level[1:] if is_escaped(level) else level for level in template.split("/")])


def _summary(summary: UsageSummary) -> str:
    times = "once" if summary.count == 1 else f"{summary.count} times"
    when = utc_text(summary.last_at)
    if summary.first_at != summary.last_at:
        when = f"{utc_text(summary.first_at)} to {when}"
    return f"{times}, {when}, {_names(summary.devices)}"


def _names(devices: Collection[str]) -> str:
    return _some(sorted(devices))


def listed(records: Iterable[UsageRecord]) -> str:
    """The first of these records, and how many more there are, for people to read."""
    return _some([f"{one.device_id} {one.action} {quoted(one.template)}" for one in records])


def _some(texts: Collection[str]) -> str:
    shown = list(texts)[:_NAMES_SHOWN_MAX]
    more = f" and {len(texts) - len(shown)} more" if len(texts) > len(shown) else ""
    return ", ".join(shown) + more
