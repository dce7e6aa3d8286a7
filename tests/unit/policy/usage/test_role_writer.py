"""The text of a proposal: the policy reads back what was proposed, and no topic writes a line of its own."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.mqtt.topics import filter_fault
from gateway.policy.engine.identity import Device
from gateway.policy.engine.limits import Limits
from gateway.policy.engine.placeholders import rule_topic_fault
from gateway.policy.engine.policy import Action, Effect, Policy, Role, Rule
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord
from gateway.policy.files.loader import load_policy
from gateway.policy.files.toml_strings import quoted
from gateway.policy.usage.role_learner import learn
from gateway.policy.usage.role_writer import role_file

EVIL = 'a"\n[[allow]]\nactions = ["publish"]\ntopics = ["b"]\n\r\x1b[2J\u202e\u2028\\'
LINE = 7
ALLOWED, OBSERVED, REFUSED = Passage


def rule(effect, topic, **more):
    return Rule(effect, frozenset(Action), topic, role="r", file="acl/roles/r.toml", line=LINE, **more)


def device(device_id):
    return Device(device_id, ("r",), {"room": ("k",)}, True, "", version=1, created_at=0, updated_at=0)


TODAY = Policy(
    [
        Role(
            "r",
            "",
            (
                rule(Effect.ALLOW, "#"),
                rule(Effect.DENY, "a/{device}/no"),
            ),
        ),
        Role("low", "", (rule(Effect.ALLOW, "low/#", max_qos=1, retain=False, max_payload=9),)),
    ],
    sensitive=[],
    limits=Limits(),
    reserved="gateway",
)


def saw(
    template, action=Action.PUBLISH, passage=ALLOWED, device_id="d-1", n=1, first=1_764_000_000, last=None
):
    return UsageRecord(device_id, action, template, passage, n, first, last or first)


def text_of(*seen, devices=("d-1",), policy=TODAY):
    return role_file(learn(policy, [device(one) for one in devices], seen), "Role r", "the last 24h")


def read(text, tmp_path):
    """The rules, as the gateway reads them."""
    folder = tmp_path / "acl"
    (folder / "roles").mkdir(parents=True)
    (folder / "roles" / "r.toml").write_text(text, "utf-8")
    (folder / "encryption.toml").write_text("sensitive = []\n")
    (folder / "limits.toml").write_text("in_flight = 7\n")
    (folder / "topics.toml").write_text('[[group]]\nname = "locks"\ntopics = ["locks/#"]\n')
    rules = load_policy(folder, reserved="gateway").roles["r"].rules
    return [
        (one.effect, set(one.actions), one.topic, one.max_qos, one.retain, one.max_payload) for one in rules
    ]


def test_the_gateway_reads_what_was_proposed(tmp_path):
    seen = [saw("a/{device}"), saw("a/#", Action.SUBSCRIBE), saw("low/x"), saw("low/x", Action.DECRYPT)]
    low = Policy(
        [
            Role(
                "r", "", (*TODAY.roles["low"].rules, rule(Effect.ALLOW, "a/#"), *TODAY.roles["r"].rules[1:])
            ),
        ],
        sensitive=[],
        limits=Limits(),
        reserved="gateway",
    )
    assert read(text_of(*seen, policy=low), tmp_path) == [
        ("allow", {"publish"}, "a/{device}", 2, True, None),
        ("allow", {"publish"}, "low/x", 1, False, 9),
        ("allow", {"subscribe"}, "a/#", 2, True, None),
        ("allow", {"decrypt"}, "low/x", 2, True, None),
        ("deny", {"subscribe"}, "a/{device}/no", 2, True, None),
    ]


def test_the_comments_say_what_each_line_comes_from():
    seen = [saw(f"jobs/{n}", n=2, device_id=f"d-{n}", last=1_764_003_600) for n in (1, 2, 3)]
    text = text_of(*seen, saw("x", passage=REFUSED), devices=("d-1", "d-2", "d-3"))
    assert text.startswith("# Role r, learned from what d-1, d-2, d-3 did in the last 24h.\n")
    assert '  "jobs/+",  # 6 times, 2025-11-24T16:00:00Z to 2025-11-24T17:00:00Z, d-1, d-2, d-3' in text
    assert '+ was "1", "2", "3"' in text
    assert '#   "x",  # once, 2025-11-24T16:00:00Z, d-1\n' in text


def test_long_lists_are_cut():
    devices = [f"d-{n:02}" for n in range(30)]
    text = text_of(*(saw("a", device_id=one) for one in devices), devices=devices)
    assert "d-00, d-01, d-02, d-03, d-04 and 25 more" in text
    refused = text_of(*(saw(f"{n:03}", passage=REFUSED) for n in range(205)))
    assert '"199"' in refused
    assert '"200"' not in refused
    assert "#   # and 5 more\n" in refused
    barred = text_of(*(saw(f"$x/{n:03}", passage=REFUSED) for n in range(205)))
    assert '"$x/199"' in barred
    assert '"$x/200"' not in barred
    assert "#   and 5 more\n" in barred


@pytest.mark.parametrize("topic", ["@locks", "@", "@LOCKS", "@no-such-group"])
def test_no_topic_of_a_device_becomes_a_group(topic, tmp_path):
    """With `@locks` in the file, the role would have all topics of that group; any other can't be loaded."""
    for passage in Passage:
        seen = [saw(topic, passage=passage), saw(topic, Action.SUBSCRIBE, passage), saw("@locks/x")]
        text = uncommented(text_of(*seen))
        assert read(text, tmp_path / passage) == [("allow", {"publish"}, "@locks/x", 2, True, None)]
        assert f'#   publish    "{topic}"  once' in text


def uncommented(text):
    """As a person does it: from the heading on, the comment signs of the blocks are taken away."""
    before, heading, after = text.partition(
        "# Refused, and not allowed here. Uncomment what is needed, and nothing else."
    )
    block, gap, rest = after.partition("\n\n")
    lines = [line[2:] for line in block.split("\n")[1:]]
    return before + heading + "\n" + "\n".join(lines) + gap + rest


def test_what_was_refused_can_be_uncommented(tmp_path):
    """All that a role may give, and nothing else."""
    seen = [
        saw("new/{device}", passage=REFUSED),
        saw("new/topic", passage=REFUSED, n=3),
        saw("new/#", Action.SUBSCRIBE, passage=REFUSED),
        saw("a/{device}/no", passage=REFUSED),
        saw("a/#", Action.SUBSCRIBE, passage=REFUSED),
        saw("$CONTROL/dynamic-security/v1", passage=REFUSED),
        saw("$SYS/#", Action.SUBSCRIBE, passage=REFUSED),
        saw("x/+{device}", passage=REFUSED),
        saw("used"),
    ]
    text = text_of(*seen)
    assert read(text, tmp_path / "as it is") == [("allow", {"publish"}, "used", 2, True, None)]
    assert read(uncommented(text), tmp_path / "uncommented") == [
        ("allow", {"publish"}, "used", 2, True, None),
        ("allow", {"publish"}, "new/topic", 2, True, None),
        ("allow", {"publish"}, "new/{device}", 2, True, None),
        ("allow", {"subscribe"}, "new/#", 2, True, None),
    ]
    barred = text.partition("# Refused by rules, and not allowed here: a deny says so")[2]
    for topic in ("a/{device}/no", "a/#", "$CONTROL/dynamic-security/v1", "$SYS/#", "x/{device}"):
        assert f'"{topic}"' in barred


def test_a_long_list_is_still_one_that_can_be_uncommented(tmp_path):
    many = [saw(f"{n:03}", passage=REFUSED) for n in range(205)]
    text = text_of(saw("used"), *many, *(saw(f"s/{n}", Action.SUBSCRIBE, passage=REFUSED) for n in "12"))
    assert len(read(uncommented(text), tmp_path)) == 1 + 200 + 1


def test_a_deny_of_a_role_that_nobody_of_them_has_bars_nothing():
    other = Role("other", "", (rule(Effect.DENY, "#"),))
    policy = Policy([*TODAY.roles.values(), other], sensitive=[], limits=Limits(), reserved="gateway")
    assert "a deny says so" not in text_of(saw("a"), saw("b", passage=REFUSED), policy=policy)


def test_what_was_refused_writes_no_line_of_its_own(tmp_path):
    text = text_of(saw("a"), saw(EVIL, passage=REFUSED), saw(f"b/{EVIL}", Action.SUBSCRIBE, passage=REFUSED))
    assert all(line.isprintable() for line in text.split("\n"))
    assert {topic for _, _, topic, *_ in read(uncommented(text), tmp_path)} == {"a", EVIL, f"b/{EVIL}"}


def test_what_has_to_be_known_of_it_stands_at_its_head():
    assert "Nothing was allowed and used" in text_of(saw("a", passage=REFUSED))
    assert "Not complete: 3 decisions" in text_of(saw("a"), saw(OVERFLOW, n=3))
    denied = text_of(saw("a/{device}/no"))
    assert 'Careful: it refuses what passed when it was recorded: d-1 publish "a/{device}/no"' in denied
    admitted = text_of(saw("a/{label.room}"), saw("a/k", passage=REFUSED))
    assert 'Careful: it allows what was refused when it was recorded: d-1 publish "a/k"' in admitted
    gone = text_of(saw("x"), policy=Policy([], sensitive=[], limits=Limits(), reserved="gateway"))
    assert 'Careful: it allows what no rule of today allows: d-1 publish "x".' in gone
    roles = [Role("r", "", (rule(Effect.ALLOW, "a/b"),))]
    narrow = Policy(roles, sensitive=[], limits=Limits(), reserved="gateway")
    part = text_of(saw("a/+"), saw("a/b", passage=REFUSED), saw("a/c", passage=REFUSED), policy=narrow)
    assert "Careful: of these it allows the part that today's rules allow, used or not: d-1" in part
    at_times = text_of(saw("x"), saw("x", passage=REFUSED))
    assert "# Refused at times, and allowed here: single messages" in at_times
    assert "not allowed here" not in at_times
    braces = text_of(saw("a"), saw("x/+{device}"))
    assert '#   publish    "x/{device}"  once' in braces
    for text in (denied, admitted, braces):
        tomllib.loads(text)


def test_a_topic_writes_no_line_of_its_own(tmp_path):
    text = text_of(
        saw(EVIL),
        saw(EVIL + "/x", passage=REFUSED),
        saw("a"),
        saw(f"b/{EVIL}"),
        saw(f"b/{EVIL}2"),
        saw(f"b/{EVIL}3"),
    )
    assert text.isprintable() is False
    assert all(line.isprintable() for line in text.split("\n"))
    assert {topic for _, _, topic, *_ in read(text, tmp_path)} == {EVIL, "a", "b/+"}


@given(st.text())
def test_any_text_in_quotes_is_the_text(text):
    found = quoted(text)
    assert "\n" not in found
    assert tomllib.loads(f"a = {found}") == {"a": text}


@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=9), st.sampled_from(Action), st.sampled_from(Passage)),
        max_size=9,
        unique=True,
    )
)
def test_whatever_is_recorded_the_text_is_sound(seen):
    seen = [
        saw(topic, action, passage)
        for topic, action, passage in seen
        if not (filter_fault(topic) if action is Action.SUBSCRIBE else rule_topic_fault(topic))
        and not topic.startswith("$share")
        and "{" not in topic
        and "}" not in topic
    ]
    tomllib.loads(text_of(*seen))


def test_what_passed_while_observed_is_written_and_says_so(tmp_path):
    seen = [
        saw("used"),
        saw("new/{device}", passage=OBSERVED, n=3),
        saw("new/#", Action.SUBSCRIBE, OBSERVED),
        saw("a/{device}/no", passage=OBSERVED),
        saw("x/+{device}", passage=OBSERVED),
        saw(EVIL, passage=OBSERVED),
        saw("no", passage=REFUSED),
    ]
    narrow = Policy(
        [Role("r", "", (rule(Effect.ALLOW, "used"), rule(Effect.DENY, "a/{device}/no")))],
        sensitive=[],
        limits=Limits(),
        reserved="gateway",
    )
    text = text_of(*seen, policy=narrow)
    assert read(text, tmp_path) == [
        ("allow", {"publish"}, "used", 2, True, None),
        ("allow", {"publish"}, EVIL, 2, True, None),
        ("allow", {"publish"}, "new/{device}", 2, True, None),
        ("allow", {"subscribe"}, "new/#", 2, True, None),
    ]
    head, first, second = text.partition("# Refused, and")[0].split(
        "# No rule of today allows all of this: it passed only"
    )
    assert (
        "# Careful: some passed only because the device was observed. Blocks of their own say which." in head
    )
    assert '"used",  # once' in head
    assert '  "new/{device}",  # 3 times, 2025-11-24T16:00:00Z, d-1\n' in first
    assert '"new/#"' in second
    assert (
        '#   publish    "a/{device}/no"  once'
        in text.partition("# Refused by rules, and not allowed here")[2]
    )
    assert all(line.isprintable() for line in text.split("\n"))
    assert "observed" not in text_of(saw("used"), saw("no", passage=REFUSED), policy=narrow)


def test_what_passed_while_observed_alone_makes_a_role(tmp_path):
    nothing = Policy([], sensitive=[], limits=Limits(), reserved="gateway")
    text = text_of(saw("a", passage=OBSERVED), policy=nothing)
    assert read(text, tmp_path) == [("allow", {"publish"}, "a", 2, True, None)]
    assert "Nothing was allowed" not in text
