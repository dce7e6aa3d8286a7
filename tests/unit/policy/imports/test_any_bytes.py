"""Whatever the files hold: it is read, or refused with its place, and what comes of it can be written."""

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.dynsec import DynSec
from gateway.policy.imports.mosquitto_acl import AclFile
from gateway.policy.imports.mosquitto_passwords import read_passwords
from gateway.policy.imports.policy_writer import SENSITIVE, ask, compiled, write
from gateway.policy.imports.role_composition import compose

LINES = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.builds(
            lambda word, rest: word + b" " + rest,
            st.sampled_from([b"topic", b"topic deny", b"pattern", b"pattern write", b"user"]),
            st.one_of(
                st.binary(max_size=12),
                st.text("ab/+#%uc${}' \"\\é", max_size=12).map(str.encode),
                st.text("ab/+#%uc", max_size=5).map(lambda rest: f"$share/{rest}".encode()),
            ),
        ),
    ),
    max_size=8,
)
NAMES = st.text("ab/+#$% \"'{}é\x7f", max_size=5)
ACLS = st.fixed_dictionaries(
    {
        "acltype": st.sampled_from(
            ["publishClientSend", "publishClientReceive", "subscribeLiteral", "subscribePattern"]
        ),
        "topic": NAMES | NAMES.map("$share/a/".__add__),
    },
    optional={"priority": st.integers(-2, 2), "allow": st.booleans()},
)
ROLES = st.fixed_dictionaries(
    {"rolename": NAMES}, optional={"acls": st.lists(ACLS, max_size=4), "textname": NAMES}
)
NAMED = st.lists(st.fixed_dictionaries({"rolename": NAMES}), max_size=3)
CLIENTS = st.fixed_dictionaries(
    {"username": NAMES}, optional={"roles": NAMED, "password": NAMES, "salt": NAMES}
)
FLAGS = st.dictionaries(
    st.sampled_from(["publishClientSend", "publishClientReceive", "subscribe"]), st.booleans()
)
FILES = st.fixed_dictionaries(
    {"roles": st.lists(ROLES, max_size=3), "clients": st.lists(CLIENTS, max_size=3)},
    optional={"defaultACLAccess": FLAGS},
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def carry_over(source, folder):
    composed = compose(source, reserved="gateway", sensitive=SENSITIVE)
    questions, faults = ask(source, composed, compiled(composed, reserved="gateway"))
    assert faults == []
    if composed.drafts:
        write(folder / "new", source, composed, questions, reserved="gateway")


@given(LINES)
def test_an_acl_file_of_any_bytes(tmp_path_factory, lines):
    with contextlib.suppress(PolicyError):
        source = AclFile(b"\n".join(lines), "acl")
        carry_over(source, tmp_path_factory.mktemp("any"))


@given(st.binary(max_size=60).filter(lambda raw: b"\0" not in raw))
def test_a_password_file_of_any_bytes(raw):
    with contextlib.suppress(PolicyError):
        accounts, findings = read_passwords(raw, "passwd")
        assert len(accounts) + len(findings) <= raw.count(b"\n") + 1


@given(FILES)
def test_a_plugins_file_of_any_names(tmp_path_factory, whole):
    with contextlib.suppress(PolicyError):
        source = DynSec(json.dumps(whole).encode(), "d.json")
        carry_over(source, tmp_path_factory.mktemp("any"))


@given(st.dictionaries(st.sampled_from(["roles", "clients", "groups", "defaultACLAccess", "x"]), VALUES))
def test_a_plugins_file_of_any_form(whole):
    with contextlib.suppress(PolicyError):
        DynSec(json.dumps(whole).encode(), "d.json")
