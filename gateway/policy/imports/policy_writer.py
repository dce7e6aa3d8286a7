"""A composed policy as a folder of files, with the questions that show it to be what it was.

The files are those of `acl/` (see acl/README.md); after each topic stands the line it comes from.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.mqtt.topics import name_fault
from gateway.policy.engine.identity import Identity, is_device_id
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.policy import Action, Effect, Policy, Rights
from gateway.policy.engine.rules import OnWideSubscribe, Rule
from gateway.policy.files.loader import load_policy
from gateway.policy.files.policy_tests import load_cases, run_cases
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.files.toml_strings import quoted
from gateway.policy.imports.intermediate_model import AccessLine, Finding, ImportSource, Subject
from gateway.policy.imports.role_composition import Composed, Draft

SENSITIVE = ("devices/+/private/#",)
"""Filters of what is sealed by the encryption.toml that ships."""
_WORDS = ("x1", "y2", "z3", "x4", "y5")
"""Words for the levels of a topic that may be anything."""
_QUESTIONS_MOST = 40
"""Topics that are asked about for one user; half of them are topics of others, for denials matter most."""
_CASES_MOST = 2_000
"""Cases in one cases.toml: every look at the policy reads all of them, a third of a millisecond each."""


@dataclass(frozen=True, slots=True)
class Question:
    """One case: an identity, and Mosquitto's answer, which is ours too."""

    identity: Identity
    action: Action
    topic: str
    allowed: bool
    location: str
    """`file:line` of the line by which Mosquitto decides it."""


def compiled(composed: Composed, *, reserved: str) -> Policy:
    """The composed roles, judging as they will from their files."""
    roles = [draft.role for draft in composed.drafts]
    return Policy(roles, sensitive=SENSITIVE, limits=Limits(), reserved=reserved)


def ask(source: ImportSource, composed: Composed, policy: Policy) -> tuple[list[Question], list[Finding]]:
    """Questions about every user with the same answer from both, and a finding for each that has two.

    Both are the gateway and Mosquitto. A question whose answer is listed to differ is in neither. Raises
    PolicyError with those that the gateway would allow and Mosquitto denies: such a policy is put nowhere.
    """
    questions: list[Question] = []
    faults: list[Finding] = []
    given_away: list[str] = []
    subjects = [(subject.user, subject) for subject in source.subjects if subject.user is not None]
    listed = {
        (one.user, one.action, one.topics): one
        for one in composed.findings
        if one.kind == "differs" and one.topics is not None
    }
    most = min(_QUESTIONS_MOST, max(2, _CASES_MOST // (2 * len(subjects) or 1)))
    common = _spread(_examples(line for _, subject in subjects for line in _lines_of(subject)), most)
    for user, subject in subjects:
        roles = composed.roles_of[user]
        # One that can be no device is asked about by the name of the role with its rules.
        device = user if is_device_id(user) else next(iter(roles), "nobody")
        identity = Identity(device, roles, {}, subject.client)
        access = policy.rights(identity)
        findings = [one for one in listed.values() if one.user in {None, user}]
        own = _spread(_examples(_lines_of(subject)), most // 2)
        for topic in list(dict.fromkeys([*own, *common]))[:most]:
            for action in subject.access_lists:
                if any(one.explains(user, subject.client, action, topic) for one in findings):
                    continue
                allowed, location = (
                    subject.allowed_in_mosquitto(action, topic),
                    subject.deciding_location(action, topic),
                )
                question = Question(identity, action, topic, allowed, location)
                if _check(access, question) is allowed:
                    questions.append(question)
                elif allowed:
                    faults.append(Finding("differs", location, _disagrees(question), user, action, topic))
                else:
                    given_away.append(f"{location}: {_disagrees(question)}")
    if given_away:
        raise PolicyError(given_away)
    return questions, faults


def write(
    folder: Path, source: ImportSource, composed: Composed, questions: Sequence[Question], *, reserved: str
) -> None:
    """Write the policy into a new or an empty folder, and try it there before it gets its name.

    Raises OSError, and PolicyError when the folder has something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PolicyError([f"{folder}: there is something already; name a folder that is new or empty"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = folder.absolute().with_name(f".{folder.absolute().name}.new")
    draft.mkdir()
    try:
        _try(draft, source, composed, questions, reserved)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def rehearse(
    source: ImportSource, composed: Composed, questions: Sequence[Question], *, reserved: str
) -> None:
    """All that `write` does, in a folder that is gone afterwards. Raises what `write` would raise."""
    with tempfile.TemporaryDirectory() as folder:
        _try(Path(folder), source, composed, questions, reserved)


def _try(
    folder: Path, source: ImportSource, composed: Composed, questions: Sequence[Question], reserved: str
) -> None:
    """Write the files and run their cases. Problems name lines of the source: the files will be gone."""
    _fill(folder, source, composed, questions)
    try:
        policy = load_policy(folder, reserved=reserved)
        cases = load_cases(folder, policy)
    except PolicyError as error:
        raise PolicyError(_traced(one, folder, source.file) for one in error.problems) from None
    failed = [
        f"{question.location}: {_disagrees(question)}"
        for question, result in zip(questions, run_cases(policy, cases), strict=True)
        if not result.passed
    ]
    if failed:
        raise PolicyError(failed)


def _check(access: Rights, question: Question) -> bool:
    """The gateway's answer, asked as `cases.toml` asks it."""
    if question.action is Action.SUBSCRIBE:
        return access.decide_filter(question.topic).allowed
    return access.decide(question.action, question.topic).allowed


def _disagrees(question: Question) -> str:
    there, here = ("allowed", "denied") if question.allowed else ("denied", "allowed")
    return (
        f"{question.identity.device_id} {question.action} {question.topic}: {there} in Mosquitto and {here} "
        "here, for no reason that the import knows. Write this right into its role by hand, without the line "
        "in the file that is imported, and report it as a fault of the import"
    )


def _traced(problem: str, folder: Path, file: str) -> str:
    """A problem of a file in the folder, with the location of the line that it comes from."""
    found = re.match(rf"{re.escape(str(folder))}/([^:]+):(\d+): (.*)", problem, re.DOTALL)
    if found is None:
        return f"{file}: {problem.replace(f'{folder}/', '')}"
    name, number, text = found.groups()
    lines = (folder / name).read_text("utf-8").splitlines()
    origin = re.search(r",  # (.*)$", "".join(lines[int(number) - 1 : int(number)]))
    return f"{origin[1] if origin else file}: the {name} that would come of it can't be used: {text}"


def _fill(folder: Path, source: ImportSource, composed: Composed, questions: Sequence[Question]) -> None:
    (folder / "roles").mkdir()
    origin = f"# From {_plain(source.file)}, by `gateway-admin acl import mosquitto`.\n"
    for one in composed.drafts:
        (folder / "roles" / f"{one.role.name}.toml").write_text(origin + _role(one), "utf-8")
    (folder / "encryption.toml").write_text(_encryption(), "utf-8")
    (folder / "limits.toml").write_text(_limits(), "utf-8")
    if questions:
        (folder / "cases.toml").write_text(origin + _cases(questions), "utf-8")


def _lines_of(subject: Subject) -> Iterable[AccessLine]:
    return (
        line
        for access_lists in subject.access_lists.values()
        for access_list in access_lists
        for line in access_list
    )


def _examples(lines: Iterable[AccessLine]) -> list[str]:
    """Topics that these lines match."""
    found: dict[str, None] = {}
    for line in lines:
        levels = [
            _WORDS[number % len(_WORDS)] if level == "+" else level
            for number, level in enumerate(line.as_matched.split("/"))
        ]
        ends: tuple[list[str], ...] = ([],)
        if levels[-1] == "#":
            levels = levels[:-1]
            ends = ([], ["x1"], ["x1", "y2"])
        for end in ends:
            topic = "/".join([*levels, *end])
            # No message has a topic on $share, and as a filter it asks for what stands after it.
            if name_fault(topic) is None and not topic.startswith("$share"):
                found[topic] = None
    return list(found)


def _spread(topics: Sequence[str], most: int) -> list[str]:
    """At most `most` of them, spread over the whole list."""
    stride = max(1, -(-len(topics) // most)) if most else 1
    return list(topics[::stride][:most])


def _role(draft: Draft) -> str:
    blocks: dict[tuple[Effect, frozenset[Action]], list[Rule]] = {}
    for rule in draft.role.rules:
        blocks.setdefault((rule.effect, rule.actions), []).append(rule)
    lines = [f"description = {_quoted(draft.role.description)}"]
    if draft.role.will is not None:
        lines.append(f'will = "{draft.role.will}"  # a will that the rules refuse keeps nobody out')
    if draft.role.subscribe is OnWideSubscribe.FILTER:
        lines.append(
            f'subscribe = "{draft.role.subscribe}"  # a filter that is wider than the rules is taken'
        )
    for (effect, actions), rules in sorted(blocks.items(), key=lambda block: block[0][0]):
        lines += ["", f"[[{effect}]]", f"actions = {_list(sorted(actions))}", "topics = ["]
        for rule in rules:
            lines.append(f"  {_quoted(rule.topic)},  # {_plain(', '.join(draft.locations[rule]))}")
        lines.append("]")
    return "\n".join([*lines, ""])


def _encryption() -> str:
    return (
        "# What nobody on the bus may read: payloads published here are sealed before they reach it.\n"
        '# A receiver needs "subscribe" to be delivered them and "decrypt" to be given the plaintext.\n\n'
        f"[[sensitive]]\ntopics = {_list(SENSITIVE)}\n"
    )


def _limits() -> str:
    values: Mapping[str, int] = dataclasses.asdict(Limits())
    lines = [f"{name} = {value:_}" for name, value in values.items()]
    return "\n".join(["# Bounds of each connection: those that ship, see acl/README.md.", "", *lines, ""])


def _cases(questions: Iterable[Question]) -> str:
    lines = ["# Each answer is Mosquitto's: `gateway-admin acl test` shows that it is the gateway's too."]
    for question in questions:
        identity = question.identity
        lines += [
            "",
            "[[case]]",
            f"device = {_quoted(identity.device_id)}",
            f"roles = {_list(identity.roles)}",
        ]
        if identity.client_id != identity.device_id:
            lines.append(f"client = {_quoted(identity.client_id)}")
        lines += [
            f'action = "{question.action}"',
            f"topic = {_quoted(question.topic)}",
            f'expected = "{"allow" if question.allowed else "deny"}"',
        ]
    return "\n".join([*lines, ""])


def _list(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _quoted(text: str) -> str:
    """A basic string of TOML, for which a surrogate is no character."""
    return quoted(text.encode("utf-8", "replace").decode())


def _plain(text: str) -> str:
    """Fit for a comment: on one line, and nothing in it that moves a cursor."""
    return quoted(text)[1:-1]
