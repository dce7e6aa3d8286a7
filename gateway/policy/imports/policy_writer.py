"""Writes the roles made from an import source, with test cases that show that they decide as Mosquitto does.

The files are those of `acl/` (see acl/README.md). A comment after each topic gives the location of the line
in Mosquitto's file that it comes from.
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
from gateway.policy.imports.intermediate_model import AccessLine, Finding, ImportSource, SourceUser
from gateway.policy.imports.role_composition import ComposedRoles, Draft

SENSITIVE = ("devices/+/private/#",)
"""The sensitive topics in the encryption.toml that we ship."""
_EXAMPLE_LEVELS = ("x1", "y2", "z3", "x4", "y5")
"""Levels that replace a `+` in the topic of a question."""
_TOPICS_PER_USER_MAX = 40
"""Topics that are asked about per user. Half of them are other users' topics, since denials matter most."""
_CASES_MAX = 2_000
"""Cases in cases.toml: all of them are read with each reload, at a third of a millisecond each."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether an identity may do something on a topic, with Mosquitto's answer; a case for `cases.toml`."""

    identity: Identity
    action: Action
    topic: str
    allowed: bool
    location: str
    """`file:line` of the line by which Mosquitto decides it."""


def compiled(composed: ComposedRoles, *, reserved: str) -> Policy:
    """The policy of the composed roles, as it will be once it is read from their files."""
    roles = [draft.role for draft in composed.drafts]
    return Policy(roles, sensitive=SENSITIVE, limits=Limits(), reserved=reserved)


def ask(
    source: ImportSource, composed: ComposedRoles, policy: Policy
) -> tuple[list[Question], list[Finding]]:
    """Ask Mosquitto's rules and the gateway's policy the same questions about every user.

    Returns the questions with the same answer, and a finding for each that Mosquitto allows and the gateway
    would deny. A question is in neither list if a finding already says that the answers differ. Raises
    PolicyError with those that the gateway would allow and Mosquitto denies: such a policy is not written.
    """
    questions: list[Question] = []
    newly_denied: list[Finding] = []
    newly_allowed: list[str] = []
    source_users = [
        (source_user.user, source_user) for source_user in source.users if source_user.user is not None
    ]
    listed = {
        (one.user, one.action, one.topics): one
        for one in composed.findings
        if one.kind == "differs" and one.topics is not None
    }
    most = min(_TOPICS_PER_USER_MAX, max(2, _CASES_MAX // (2 * len(source_users) or 1)))
    common = _spread(
        _examples(line for _, source_user in source_users for line in _lines_of(source_user)), most
    )
    for user, source_user in source_users:
        roles = composed.roles_of[user]
        # A user whose name can't be a device id is asked about under the name of the role with its rules.
        device = user if is_device_id(user) else next(iter(roles), "nobody")
        identity = Identity(device, roles, {}, source_user.client)
        rights = policy.rights(identity)
        findings = [one for one in listed.values() if one.user in {None, user}]
        own = _spread(_examples(_lines_of(source_user)), most // 2)
        for topic in list(dict.fromkeys([*own, *common]))[:most]:
            for action in source_user.access_lists:
                if any(one.explains(user, source_user.client, action, topic) for one in findings):
                    continue
                allowed, location = (
                    source_user.allowed_in_mosquitto(action, topic),
                    source_user.deciding_location(action, topic),
                )
                question = Question(identity, action, topic, allowed, location)
                if _is_allowed(rights, question) is allowed:
                    questions.append(question)
                elif allowed:
                    newly_denied.append(
                        Finding("differs", location, _disagreement(question), user, action, topic)
                    )
                else:
                    newly_allowed.append(f"{location}: {_disagreement(question)}")
    if newly_allowed:
        raise PolicyError(newly_allowed)
    return questions, newly_denied


def write(
    folder: Path,
    source: ImportSource,
    composed: ComposedRoles,
    questions: Sequence[Question],
    *,
    reserved: str,
) -> None:
    """Write the policy into a new or empty folder. It is loaded and tested under a temporary name first.

    Raises OSError, and PolicyError if the folder is not empty or the tests fail.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PolicyError([f"{folder}: there is something already; name a folder that is new or empty"])
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.absolute().with_name(f".{folder.absolute().name}.new")
    unfinished.mkdir()
    try:
        _write_and_test(unfinished, source, composed, questions, reserved)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def rehearse(
    source: ImportSource, composed: ComposedRoles, questions: Sequence[Question], *, reserved: str
) -> None:
    """Do what `write` does in a temporary folder. Raises what `write` would raise."""
    with tempfile.TemporaryDirectory() as folder:
        _write_and_test(Path(folder), source, composed, questions, reserved)


def _write_and_test(
    folder: Path, source: ImportSource, composed: ComposedRoles, questions: Sequence[Question], reserved: str
) -> None:
    """Write the files and run their cases. Problems name lines of the source: the files may be deleted."""
    _fill(folder, source, composed, questions)
    try:
        policy = load_policy(folder, reserved=reserved)
        cases = load_cases(folder, policy)
    except PolicyError as error:
        raise PolicyError(_located_in_source(one, folder, source.file) for one in error.problems) from None
    failed = [
        f"{question.location}: {_disagreement(question)}"
        for question, result in zip(questions, run_cases(policy, cases), strict=True)
        if not result.passed
    ]
    if failed:
        raise PolicyError(failed)


def _is_allowed(rights: Rights, question: Question) -> bool:
    """The gateway's answer, as for a case in `cases.toml`."""
    if question.action is Action.SUBSCRIBE:
        return rights.decide_filter(question.topic).allowed
    return rights.decide(question.action, question.topic).allowed


def _disagreement(question: Question) -> str:
    by_mosquitto, by_gateway = ("allowed", "denied") if question.allowed else ("denied", "allowed")
    return (
        f"{question.identity.device_id} {question.action} {question.topic}: {by_mosquitto} in Mosquitto and "
        f"{by_gateway} in the gateway, for no reason that the import knows. Write this right into its role "
        "by hand, without the line in the file that is imported, and report it as a fault of the import"
    )


def _located_in_source(problem: str, folder: Path, file: str) -> str:
    """A problem in a written file, with the location of the source line that it comes from."""
    found = re.match(rf"{re.escape(str(folder))}/([^:]+):(\d+): (.*)", problem, re.DOTALL)
    if found is None:
        return f"{file}: {problem.replace(f'{folder}/', '')}"
    name, number, text = found.groups()
    lines = (folder / name).read_text("utf-8").splitlines()
    origin = re.search(r",  # (.*)$", "".join(lines[int(number) - 1 : int(number)]))
    return f"{origin[1] if origin else file}: the {name} that would come of it can't be used: {text}"


def _fill(folder: Path, source: ImportSource, composed: ComposedRoles, questions: Sequence[Question]) -> None:
    (folder / "roles").mkdir()
    origin = f"# From {_plain(source.file)}, by `gateway-admin acl import mosquitto`.\n"
    for one in composed.drafts:
        (folder / "roles" / f"{one.role.name}.toml").write_text(origin + _role(one), "utf-8")
    (folder / "encryption.toml").write_text(_encryption(), "utf-8")
    (folder / "limits.toml").write_text(_limits(), "utf-8")
    if questions:
        (folder / "cases.toml").write_text(origin + _cases(questions), "utf-8")


def _lines_of(source_user: SourceUser) -> Iterable[AccessLine]:
    return (
        line
        for access_lists in source_user.access_lists.values()
        for access_list in access_lists
        for line in access_list
    )


def _examples(lines: Iterable[AccessLine]) -> list[str]:
    """Topics that these lines match."""
    found: dict[str, None] = {}
    for line in lines:
        levels = [
            _EXAMPLE_LEVELS[number % len(_EXAMPLE_LEVELS)] if level == "+" else level
            for number, level in enumerate(line.as_matched.split("/"))
        ]
        ends: tuple[list[str], ...] = ([],)
        if levels[-1] == "#":
            levels = levels[:-1]
            ends = ([], ["x1"], ["x1", "y2"])
        for end in ends:
            topic = "/".join([*levels, *end])
            # `$share` is not a topic of messages, and as a filter it means what follows it.
            if name_fault(topic) is None and not topic.startswith("$share"):
                found[topic] = None
    return list(found)


def _spread(topics: Sequence[str], most: int) -> list[str]:
    """At most `most` of the topics, evenly spread over the list."""
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
        "# What nobody on the bus may read: payloads published to these are sealed before they reach it.\n"
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
    """A TOML basic string; surrogates, which TOML does not allow, are replaced."""
    return quoted(text.encode("utf-8", "replace").decode())


def _plain(text: str) -> str:
    """The text for a comment: on one line, with characters that move a cursor escaped."""
    return quoted(text)[1:-1]
