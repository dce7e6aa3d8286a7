"""`gateway-admin init` in an empty folder, again, and beside what somebody else made."""

import json
import ssl
import stat

import pytest
from cryptography import x509

MADE = [
    "certs/ca.crt",
    "certs/ca.key",
    "certs/server.crt",
    "certs/server.key",
    "data/gateway.db",
    "data/keys/audit.key",
    "data/keys/encryption.key",
    "data/keys/signing.key",
]


def content(bare):
    return {name: (bare.folder / name).read_bytes() for name in MADE}


def test_what_is_missing_is_made_and_what_is_there_is_not_touched(bare):
    code, out, err = bare.shell("gateway-admin init --san gw.example.org --san 192.0.2.7 --json")
    assert (code, err) == (0, "")
    first = json.loads(out)
    assert (sorted(first["made"]), first["present"]) == (MADE, [])
    before = content(bare)
    code, out, err = bare.shell("gateway-admin init --json")
    assert (code, err) == (0, "")
    again = json.loads(out)
    assert (again["made"], sorted(again["present"])) == ([], MADE)
    assert content(bare) == before
    code, _, err = bare.shell("gateway-admin init --san other.example.org")
    assert code == 0
    assert "keeps its names" in err
    assert content(bare) == before
    code, out, _ = bare.shell("gateway check")
    assert code == 0, out


def test_only_what_is_missing_is_made(bare):
    bare.shell("gateway-admin init")
    before = content(bare)
    for name in ("data/gateway.db", "certs/server.crt", "certs/server.key"):
        (bare.folder / name).unlink()
    code, out, _ = bare.shell("gateway-admin init")
    assert code == 0
    assert "made     data/gateway.db" in out.splitlines()
    assert "present  certs/ca.crt" in out.splitlines()
    after = content(bare)
    changed = {name for name in MADE if before[name] != after[name]}
    assert changed <= {"data/gateway.db", "certs/server.crt", "certs/server.key"}
    assert {"certs/server.crt", "certs/server.key"} <= changed


def test_the_certificate_has_the_names_that_were_asked_for_and_fits_its_key_and_ca(bare):
    bare.shell("gateway-admin init --san gw.example.org --san 192.0.2.7")
    certs = bare.folder / "certs"
    certificate = x509.load_pem_x509_certificate((certs / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {"localhost", "gw.example.org"} <= set(names.get_values_for_type(x509.DNSName))
    assert {"127.0.0.1", "192.0.2.7"} <= {str(name) for name in names.get_values_for_type(x509.IPAddress)}
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certs / "server.crt", certs / "server.key")
    authority = x509.load_pem_x509_certificate((certs / "ca.crt").read_bytes())
    certificate.verify_directly_issued_by(authority)


@pytest.mark.parametrize(
    "name",
    [
        "certs/ca.key",
        "certs/server.key",
        "data/keys/encryption.key",
        "data/keys/signing.key",
        "data/gateway.db",
    ],
)
def test_what_is_secret_is_for_its_owner_alone(bare, name):
    bare.shell("umask 000; gateway-admin init")
    assert stat.S_IMODE((bare.folder / name).stat().st_mode) == 0o600


def test_half_a_pair_is_refused_and_left_alone(bare):
    bare.shell("gateway-admin init")
    (bare.folder / "certs" / "server.key").unlink()
    code, out, err = bare.shell("gateway-admin init --json")
    assert code == 1
    assert "server.key" in json.loads(out)["problems"][0]
    assert "Traceback" not in err
    assert not (bare.folder / "certs" / "server.key").exists()
