"""Hashes of other programs: Argon2id is taken over, the others are named for what they are."""

import pytest
from argon2 import PasswordHasher, Type

from gateway.auth.password_hash_identification import is_imported, kind_of
from gateway.auth.passwords import PasswordPool, imported_credential, needs_rehash

SALT, DIGEST = "c2FsdHNhbHRzYWx0c2FsdA", "B" * 42 + "A"


@pytest.mark.parametrize(
    ("hashed", "name"),
    [
        ("PBKDF2$sha512$100000$AAAAAAAAAAAAAAAAAAAAAA==$AAAA", "PBKDF2 hash as mosquitto-go-auth"),
        ("$pbkdf2-sha256$29000$N2YM$1t8", "PBKDF2 hash as passlib"),
        ("pbkdf2_sha256$260000$salt$hash=", "PBKDF2 hash as Django"),
        ("$2a$10$abcdefghijklmnopqrstuuabcdefghijklmnopqrstuvwxyzabcdef", "bcrypt"),
        ("$2y$12$abc", "bcrypt"),
        ("$argon2i$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA", "Argon2i or Argon2d"),
        ("$argon2id$v=16$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA", "another version"),
        ("$argon2id$v=19$m=65536", "cut off"),
        ("$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh", "scrypt"),
        ("$y$j9T$salt$hash", "yescrypt"),
        ("$apr1$salt$hash", "MD5 hash of crypt"),
        ("$5$rounds=5000$salt$hash", "SHA-256 hash of crypt"),
        ("$6$saltsalt$" + "a" * 86, "SHA-512 hash of crypt"),
        ("$7$101$short$short", "damaged"),
        ("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "LDAP"),
        ("$md9$what$ever", "not known here"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "hexadecimal"),
        ("really plain", "plain text"),
        ("mosquitto$ecret", "plain text"),
    ],
)
def test_every_kind_is_named_and_none_is_quoted(hashed, name):
    assert name in kind_of(hashed)
    with pytest.raises(ValueError, match="it is") as refused:
        imported_credential(hashed)
    assert hashed not in str(refused.value)


@pytest.mark.parametrize("parameters", [(47_104, 1, 1), (65_536, 3, 1), (9_216, 4, 1)])
async def test_argon2id_as_mosquitto_2_1_writes_it_lets_in_and_is_replaced(parameters):
    memory, passes, lanes = parameters
    hashed = PasswordHasher(passes, memory, lanes, hash_len=64, salt_len=64, type=Type.ID).hash(b"an old one")
    credential = imported_credential(hashed)
    assert (needs_rehash(credential), is_imported(credential)) == (True, False)
    pool = PasswordPool(threads=1)
    try:
        assert pool.check(credential, b"an old one")
        assert not pool.check(credential, b"a wrong one")
    finally:
        pool.close()


@pytest.mark.parametrize("costs", ["m=131073,t=1,p=1", "m=65536,t=5,p=1", "m=47104,t=1,p=17", "m=8,t=1,p=2"])
def test_argon2id_that_costs_more_than_a_login_may_is_refused(costs):
    with pytest.raises(ValueError, match="costs more than a login may"):
        imported_credential(f"$argon2id$v=19${costs}${SALT}${DIGEST}")


def test_padding_and_bits_that_mean_nothing_are_spelled_as_argon2_does():
    hashed = imported_credential(f"$argon2id$v=19$m=47104,t=1,p=1${SALT}==${'B' * 43}=")
    assert hashed == f"$argon2id$v=19$m=47104,t=1,p=1${SALT}${DIGEST}"


@pytest.mark.parametrize("parts", [("c2FsdA", DIGEST), (SALT, "aGFzaA"), (SALT, ""), (SALT, "B" * 41)])
def test_argon2id_that_is_too_short_is_no_hash(parts):
    with pytest.raises(ValueError, match="cut off"):
        imported_credential("$".join(["$argon2id$v=19$m=47104,t=1,p=1", *parts]))
