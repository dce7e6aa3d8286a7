"""What Mosquitto answers with its own files, the gateway answers with what was imported from them.

Every question is put to a real Mosquitto that has the files, and to the policy. An answer may differ only
where the import has said so.
"""

import itertools
import json
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from acl_questions import Broker, message
from harness import raw
from harness.enrol import in_store
from harness.gateway import Gateway
from harness.mosquitto import Mosquitto, version
from harness.raw import Raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.mqtt.topics import name_fault
from gateway.policy.engine.identity import Identity, is_device_id
from gateway.policy.engine.rules import Action
from gateway.policy.files.loader import load_policy
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.mosquitto_acl import AclFile
from gateway.policy.imports.policy_writer import SENSITIVE, ask, compiled, write
from gateway.policy.imports.role_composition import compose

FILES = Path(__file__).parent / "acl_files"
GUIDE = Path(__file__).parents[2] / "docs" / "import-mosquitto.md"
RESERVED = "gateway"
NEW_USER = "newcomer"


class Import:
    """A file, imported, written and read again."""

    def __init__(self, source, folder):
        self.source = source
        self.composed = compose(source, reserved=RESERVED, sensitive=SENSITIVE)
        questions, faults = ask(source, self.composed, compiled(self.composed, reserved=RESERVED))
        assert not faults
        self.policy = compiled(self.composed, reserved=RESERVED)
        if self.composed.drafts:
            write(folder, source, self.composed, questions, reserved=RESERVED)
            self.policy = load_policy(folder, reserved=RESERVED)

    def allows(self, user, client, action, topic):
        # Who can be no device has got another name, and the role.
        device = user if is_device_id(user) else "renamed"
        roles = self.composed.roles_of.get(user, ())
        return self.policy.rights(Identity(device, roles, {}, client)).decide(action, topic).allowed

    def tells(self, user, client, action, topic):
        return any(one.explains(user, client, action, topic) for one in self.composed.findings)


def differences(imported, there, action, topics):
    """Questions and answers, those that differ and are told, those that differ and are not."""
    told, untold = [], []
    for (user, client), yes in there.items():
        for topic in topics:
            here = imported.allows(user, client, action, topic)
            if here is not (topic in yes):
                question = (user, client, str(action), topic, f"here {here}")
                (told if imported.tells(user, client, action, topic) else untold).append(question)
                assert not here, f"the import gave a right away: {question}"
    return told, untold


def topics_of(source, seed, count):
    """Topics that the lines match, that they nearly match, and any others of the same words."""
    dice = random.Random(seed)
    filters = sorted({
        line.as_matched
        for source_user in source.users
        for access_lists in source_user.access_lists.values()
        for access_list in access_lists
        for line in access_list
    })  # fmt: skip
    words = sorted({level for one in filters for level in one.split("/") if not {"+", "#"} & {*level}})
    found = {}
    while len(found) < count:
        levels = dice.choice(filters).split("/")
        if dice.random() < 0.3:
            levels = dice.choices(words, k=dice.randint(1, 5))
        if levels[-1] == "#":
            levels[-1:] = dice.choices(words, k=dice.randint(0, 2))
        levels = [dice.choice(words) if level == "+" or dice.random() < 0.08 else level for level in levels]
        topic = "/".join(levels)
        if name_fault(topic) is None and not topic.startswith(("$SYS", "$share")):  # those are the broker's
            found[topic] = None
    return list(found)


def ask_both(tmp_path, text, identities, topics):
    source = AclFile(text.encode(), "mosquitto.acl", [(NEW_USER, "passwd:1")])
    imported = Import(source, tmp_path / "acl")
    with Broker.of_acl(tmp_path / "bus", text, identities) as broker:
        published, delivered, kept = (
            broker.published(topics), broker.delivered(topics), broker.retained(topics),
        )  # fmt: skip
    assert kept == delivered, "a retained message is no other question"
    told, untold = differences(imported, published, Action.PUBLISH, topics)
    more_told, more_untold = differences(imported, delivered, Action.SUBSCRIBE, topics)
    assert untold + more_untold == []
    return told + more_told


def identities_of(source):
    """Every user with its name as client id, some with others too, and one that the file does not name."""
    users = [source_user.user for source_user in source.users if source_user.user is not None]
    known = [(user, user if is_device_id(user) else "client") for user in users]
    return [*known, (NEW_USER, NEW_USER), (users[0], "another"), (users[-1], "x.y")]


@pytest.mark.parametrize(
    ("name", "loses"), [("voice_home", False), ("greenhouses", False), ("weaker_patterns", True)]
)
def test_a_real_file_means_the_same_here(tmp_path, name, loses):
    text = (FILES / f"{name}.acl").read_text("utf-8")
    identities = identities_of(AclFile(text.encode(), name))
    topics = topics_of(AclFile(text.encode(), name), name, 2_400 // (2 * len(identities)))
    assert len(topics) * len(identities) * 2 > 2_000
    if version() >= (2, 1):
        # Only 2.0 puts the name for %u as a part of a level, as the import does (docs/import-mosquitto.md).
        topics = [topic for topic in topics if not topic.startswith("desk-")]
    told = ask_both(tmp_path, text, identities, topics)
    assert bool(told) is loses, told


def test_what_is_lost_is_told_with_both_lines(tmp_path):
    source = AclFile((FILES / "weaker_patterns.acl").read_bytes(), "weak.acl")
    lost = {
        (one.user, one.topics, one.location, one.text.partition(", which")[0].rpartition(" ")[2])
        for one in Import(source, tmp_path / "acl").composed.findings
        if one.user is not None
    }
    assert lost == {
        ("banker", "vault/secret/#", "weak.acl:9", "weak.acl:3"),
        ("clerk", "vault/+/balance", "weak.acl:13", "weak.acl:2"),
        ("cleaner", "rooms/secret/cleaned", "weak.acl:18", "weak.acl:3"),
    }


@pytest.mark.parametrize("seed", range(8))
def test_any_file_means_the_same_here(tmp_path, seed):
    """Of few words, so that lines reach into each other everywhere."""
    dice = random.Random(f"file {seed}")
    text = "".join(
        f"{line}\n"
        for user in (None, *USERS)
        for line in [
            *([f"user {user}"] if user else []),
            *(a_line(dice, "topic") for _ in range(dice.randint(0, 6))),
        ]
    ) + "".join(f"{a_line(dice, 'pattern')}\n" for _ in range(dice.randint(0, 6)))
    source = AclFile(text.encode(), "random")
    topics = topics_of(source, seed, 80)
    ask_both(tmp_path, text, [*identities_of(source), ("u3", "b")], topics)


USERS = ("u1", "u2", "u3", "sp ace")


def a_line(dice, keyword):
    levels = []
    for number in range(dice.randint(1, 4)):
        levels.append(dice.choice(["a", "b", "u1", "", "+", "+", "{device}"]))
        if keyword == "pattern" and dice.random() < 0.3:
            levels[-1] = dice.choice(["%u", "%c", "p-%u", "%c%u"])
        if not number and dice.random() < 0.15:
            levels[0] = dice.choice(["$home", "$SYS", "$share", RESERVED])
    if dice.random() < 0.3 or not any(levels):
        levels.append("#")
    access = dice.choice(["", "read ", "write ", "readwrite ", "deny "])
    return f"{keyword} {access}{'/'.join(levels)}"


LEVELS = st.sampled_from(["a", "b", "+", "%u", "u1"])
FILTERS = st.builds(
    lambda levels, end: "/".join([*levels, *end]),
    st.lists(LEVELS, min_size=1, max_size=3),
    st.sampled_from([(), ("#",)]),
)
LINES = st.builds(
    lambda keyword, access, topic: f"{keyword} {access} {topic}",
    st.sampled_from(["topic", "pattern"]),
    st.sampled_from(["read", "write", "readwrite", "deny"]),
    FILTERS,
)
ALL_TOPICS = [
    "/".join(levels) for size in (1, 2, 3) for levels in itertools.product(("a", "b", "u1"), repeat=size)
]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, min_size=2, max_size=10))
def test_found_no_file_that_means_something_else_here(tmp_path_factory, lines):
    text = "\n".join(["user u1", *lines])
    ask_both(tmp_path_factory.mktemp("found"), text, [("u1", "u1"), (NEW_USER, NEW_USER)], ALL_TOPICS)


def test_it_is_the_same_to_subscribe_to_the_topic_itself(tmp_path):
    text = (FILES / "voice_home.acl").read_text("utf-8")
    source = AclFile(text.encode(), "home")
    topics = topics_of(source, "exact", 50)
    with Broker.of_acl(tmp_path, text, identities_of(source)) as broker:
        assert broker.delivered(topics, *topics) == broker.delivered(topics)


def test_mosquitto_takes_every_subscribe_as_the_report_says(tmp_path):
    text = "user u1\ntopic read a\ntopic deny b"
    imported = Import(AclFile(text.encode(), "one.acl"), tmp_path / "acl")
    with Broker.of_acl(tmp_path, text, [("u1", "u1")]) as broker:
        codes, _ = broker.client("u1", "u1").subscribe("a", "b", "#", "$SYS/#")
    assert list(codes) == [0, 0, 0, 0]
    access = imported.policy.rights(Identity("u1", imported.composed.roles_of["u1"], {}, "u1"))
    assert [access.decide_filter(one).allowed for one in ("a", "b", "#", "$SYS/#")] == [
        True,
        False,
        False,
        False,
    ]
    assert [one.location for one in imported.composed.findings if "SUBSCRIBE" in one.text] == ["one.acl"]


def test_what_is_shared_is_judged_by_the_topic_of_the_message_as_the_report_says(tmp_path):
    text = """
user shares
topic read jobs/#
topic deny $share/g1/jobs/new
user names
topic read $share/g2/jobs/new
"""
    imported = Import(AclFile(text.encode(), "shared.acl"), tmp_path / "acl")
    identities = [("shares", "shares"), ("names", "names")]
    with Broker.of_acl(tmp_path, text, identities) as broker:
        delivered = {
            who: broker.delivered(["jobs/new"], f"$share/g{number}/jobs/new")[who]
            for number, who in enumerate(identities, start=1)
        }
    assert delivered == {("shares", "shares"): {"jobs/new"}, ("names", "names"): set()}
    for user, _ in identities:
        access = imported.policy.rights(Identity(user, imported.composed.roles_of[user], {}, user))
        assert access.decide_filter("$share/g/jobs/new").allowed is bool(delivered[user, user])
    assert [one.location for one in imported.composed.findings if "names a shared" in one.text] == [
        "shared.acl:4", "shared.acl:6",
    ]  # fmt: skip


def test_two_lines_are_the_equal_of_no_acl_file_as_the_guide_says(tmp_path):
    lines = "pattern readwrite #\npattern read $SYS/#\n"
    assert all(f"`{line}`" in GUIDE.read_text("utf-8") for line in lines.splitlines())
    imported = Import(AclFile(lines.encode(), "all.acl", [("u1", "passwd:1")]), tmp_path / "acl")
    topics = ["a", "a/b/c", "/", "devices/x/private/y"]
    answers = []
    for broker in (
        Broker(tmp_path / "none", "", [("u1", "u1")]),
        Broker.of_acl(tmp_path / "all", lines, [("u1", "u1")]),
    ):
        with broker:
            answers.append((broker.published(topics), broker.delivered(topics)))
            (read,) = broker.delivered([], "$SYS/broker/version").values()
            assert read == {"$SYS/broker/version"}
    assert answers[0] == answers[1] == ({("u1", "u1"): {*topics}},) * 2
    assert all(
        imported.allows("u1", "u1", action, topic)
        for action in (Action.PUBLISH, Action.SUBSCRIBE)
        for topic in topics
    )
    assert imported.allows("u1", "u1", Action.SUBSCRIBE, "$SYS/broker/version")
    assert not imported.allows("u1", "u1", Action.PUBLISH, "$SYS/broker/version")


WHOLE_FILES = [
    "", "# comment\n\n", " # comment\n", "topic read a\n", "topic read\n", "topic\n", "topic read a b\n",
    "topic foo bar\n", "topic\tread a\n", "topic read\ta\n", "user\n", "user \n",
    "user  bob s  \ntopic x\n", "foo\n", "TOPIC a\n", "topic #foo\n", "topic #\n", "topic a/#/b\n",
    "topic a+/b\n", "topic +a\n", "topic a/+\n", "topic a#\n", "pattern read x\n", "pattern deny x/%u\n",
    "topic deny\n", "topic deny a\r\n", "\ufefftopic a\n", f"topic {'a/' * 200}a\n",
    f"topic {'a/' * 201}a\n", "   topic   read   a   \n", "pattern a%u/b\n",
    "topic \ta\n", "topic \tread a\n",
    "topic readwrite a #comment\n", "user a\nuser b\n", f"topic {'x' * 65536}", f"topic {'x' * 65535}",
    "topic read $share/a/b\n", "user # x\ntopic a\n", "\x0btopic a\n", "topic  readwrite  a",
    "topic \udcff\n", "user \udcff\ntopic a", "pattern write +/%u/#", "pattern write +%u",
    "topic read a\x0b", "topic read \xa0a",
]  # fmt: skip


@pytest.mark.parametrize("text", WHOLE_FILES, ids=lambda text: repr(text[:24]))
def test_a_file_is_refused_where_mosquitto_does_not_start_with_it(tmp_path, text):
    raw = text.encode("utf-8", "surrogateescape")
    (tmp_path / "acl").write_bytes(raw)
    bus = Mosquitto(tmp_path, settings=f"acl_file {tmp_path / 'acl'}")
    try:
        bus.start()
    except RuntimeError:
        with pytest.raises(PolicyError, match="Mosquitto does not start"):
            AclFile(raw, "acl")
    else:
        AclFile(raw, "acl")
    finally:
        bus.stop()


def test_users_log_in_with_their_passwords_and_may_do_what_they_might(tmp_path, mosquitto):
    """The same questions, asked of a running gateway whose devices are Mosquitto's users."""
    text = (FILES / "voice_home.acl").read_text("utf-8")
    source = AclFile(text.encode(), "home")
    users = [source_user.user for source_user in source.users if source_user.user is not None]
    topics = topics_of(source, "through", 40)
    with Broker.of_acl(tmp_path / "bus", text, [(user, user) for user in users]) as broker:
        published, delivered = broker.published(topics), broker.delivered(topics)
    (tmp_path / "home.acl").write_text(text)
    for user in users:
        make_hash(tmp_path / "passwd", user, f"password of {user}", older=user == "hub")
    gateway = Gateway(tmp_path / "gateway", mosquitto.port, ACL_PATH=str(tmp_path / "acl"))
    gateway.admin("init")
    gateway.admin(
        "acl", "import", "mosquitto", "--acl", str(tmp_path / "home.acl"),
        "--passwords", str(tmp_path / "passwd"), "--out", str(tmp_path / "acl"), "--add-devices",
    )  # fmt: skip
    assert json.loads(gateway.admin("acl", "test", "--json").stdout)["failed"] == []
    gateway.start()
    try:
        for user in users:
            with Raw(gateway.port, gateway.tls()) as wrong:
                wrong.send(raw.connect(user, username=user, password="password of somebody"))
                assert wrong.read()[3] == 5
            with Raw(mosquitto.port) as bus, Raw(gateway.port, gateway.tls()) as device:
                assert may_publish(bus, device, user, topics) == published[user, user]
                assert may_hear(bus, device, topics) == delivered[user, user]
        assert credentials_of(gateway) == ["$argon2id$"] * len(users)
        with Raw(gateway.port, gateway.tls()) as again:
            again.send(raw.connect("hub", username="hub", password="password of hub"))
            assert again.read()[3] == 0
    finally:
        gateway.stop()


def make_hash(file, user, password, *, older):
    tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    words = [tool, *(["-H", "sha512"] if older else []), *([] if file.exists() else ["-c"])]
    subprocess.run([*words, "-b", str(file), user, password], check=True, capture_output=True)


def may_publish(bus, device, user, topics):
    """Those of the topics on which the bus hears this device."""
    bus.send(raw.connect("spy"), raw.subscribe(1, ("#", 0)))
    assert [one[0] for one in (bus.read(), bus.read())] == [0x20, 0x90]
    device.send(raw.connect(user, username=user, password=f"password of {user}"))
    assert device.read()[3] == 0
    messages = [
        raw.publish(topic, b"m", qos=1, packet_id=number) for number, topic in enumerate(topics, start=1)
    ]
    device.send(*messages, raw.PINGREQ)
    while device.read() != raw.PINGRESP:
        pass
    bus.send(raw.PINGREQ)
    found = set()
    while (packet := bus.read()) != raw.PINGRESP:
        found.add(message(packet)[0])
    found = {topic for topic in found if not topic.startswith("gateway/check/")}  # the gateway's own
    bus.send(raw.unsubscribe(2, "#"))
    assert bus.read()[0] == 0xB0
    return found


def may_hear(bus, device, topics):
    """Those of the topics that the device is delivered when it subscribes to each."""
    device.send(*(raw.subscribe(number, (topic, 0)) for number, topic in enumerate(topics, start=1)))
    for _ in topics:
        assert device.read()[0] == 0x90
    bus.send(*(raw.publish(topic, b"n") for topic in topics), raw.PINGREQ)
    assert bus.read() == raw.PINGRESP
    device.send(raw.PINGREQ)
    found = set()
    while (packet := device.read()) != raw.PINGRESP:
        found.add(message(packet)[0])
    return found


def credentials_of(gateway):
    """How each device's credential begins, once the last has been replaced."""
    deadline = time.monotonic() + 20
    while True:
        found = [device.credential[:10] for device in in_store(gateway, lambda store: store.devices.read())]
        if not any(one.startswith("$mosquitto") for one in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
