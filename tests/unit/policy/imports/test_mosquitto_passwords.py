"""A password_file as accounts; whether a hash is one is no question here."""

import pytest

from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.mosquitto_passwords import read_passwords

FILE = b"""# comment:$7$1$a$b
anna:$6$salt$hash
 ben : $7$101$salt$hash \r
no colon
empty:
::odd:$7$1$a$b
more:$7$1$a$b:rest
plain:secret word
twice:$7$1$old$old
twice:$7$1$new$new

\xff:$6$a$b
last:$6$x$y"""


def test_accounts_are_read_as_mosquitto_reads_them():
    accounts, _ = read_passwords(FILE, "passwd")
    assert [(one.user, one.hashed, one.location) for one in accounts] == [
        ("anna", "$6$salt$hash", "passwd:2"),
        ("ben", "$7$101$salt$hash", "passwd:3"),
        ("odd", "$7$1$a$b", "passwd:6"),
        ("more", "$7$1$a$b", "passwd:7"),
        ("plain", "secret word", "passwd:8"),
        ("twice", "$7$1$new$new", "passwd:10"),
        ("\udcff", "$6$a$b", "passwd:12"),
        ("last", "$6$x$y", "passwd:13"),
    ]


def test_a_nul_refuses_the_file():
    """Mosquitto leaves out the lines behind it: the old password may be the good one there."""
    with pytest.raises(PolicyError, match="passwd:2: it has a NUL"):
        read_passwords(b"a:$6$a$b\nb:$6$a$b\0\nb:$6$c$d", "passwd")


def test_what_makes_no_account_is_told():
    _, findings = read_passwords(FILE, "passwd")
    assert [(one.kind, one.location, one.user) for one in findings] == [
        ("note", "passwd:4", None),
        ("note", "passwd:5", None),
        ("note", "passwd:9", None),
    ]


def test_no_message_has_a_password_or_a_hash():
    accounts, findings = read_passwords(FILE, "passwd")
    told = repr(accounts) + repr(findings)
    assert "secret word" not in told
    assert "$salt$" not in told
    assert "$new" not in told
