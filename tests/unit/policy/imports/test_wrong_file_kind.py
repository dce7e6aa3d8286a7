"""Each of Mosquitto's files given in the place of another: it is named, and nothing of it shown."""

import pytest

from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.dynsec import DynSec
from gateway.policy.imports.mosquitto_acl import AclFile
from gateway.policy.imports.mosquitto_passwords import read_passwords

FILES = {
    "a password_file, which belongs after --passwords": "# users\none:$7$101$c2Vj$c2Vj\nben:secret",
    "an acl_file, which belongs after --acl": "\n# rights\ntopic read secret:x/#\nuser ben\npattern %u/#",
    "the JSON of dynamic security, which belongs after --dynsec": '{"clients": [{"username": "secret"}]}',
    "a mosquitto.conf, whose acl_file and password_file say where those are": "listener 1883\npsk_file a:b",
    "a certificate or a key in PEM": "-----BEGIN PRIVATE KEY-----\na:secret\n-----END PRIVATE KEY-----",
}
READERS = {
    "a password_file": read_passwords,
    "an acl_file": AclFile,
    "dynamic-security.json": DynSec,
}


@pytest.mark.parametrize("wanted", READERS)
@pytest.mark.parametrize("form", FILES)
def test_a_file_in_the_place_of_another_is_named(form, wanted):
    raw = FILES[form].encode()
    if form.startswith(wanted) or (wanted == "dynamic-security.json" and "JSON" in form):
        READERS[wanted](raw, "given")
        return
    with pytest.raises(PolicyError) as refused:
        READERS[wanted](b"\xef\xbb\xbf" + raw, "given")
    assert list(refused.value.problems) == [f"given: looks like {form}; {wanted} is wanted here"]


@pytest.mark.parametrize("text", ["localhost\n", "one\ntwo\n", ":\n", "name:\n# a:b\n"])
def test_a_file_without_any_account_is_no_password_file(text):
    with pytest.raises(PolicyError, match="given: no line is `name:hash`, so that this is no password_file"):
        read_passwords(text.encode(), "given")


@pytest.mark.parametrize("text", ["", "\n\n", "# nobody yet\n"])
def test_a_file_for_nobody_may_be_empty(text):
    assert read_passwords(text.encode(), "given") == ((), ())


def test_plain_passwords_stay_accounts_whose_passwords_can_not_be_taken_over():
    accounts, findings = read_passwords(b"ben:secret\nno colon\n", "given")
    assert [one.user for one in accounts] == ["ben"]
    assert len(findings) == 1
