"""The settings: where they may come from, what they may be, and how everything wrong is told at once."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from gateway.auth.tokens import CHAIN_MAX
from gateway.config import (
    Address,
    ConfigError,
    LogLevel,
    Settings,
    load_settings,
    read_settings,
)
from gateway.config.file_checks import file_problems
from gateway.pki.initial_certificates import ensure_server_certificate
from gateway.policy.engine.rules import OnDeniedWill, OnDeny

PREFIXES = (
    "GATEWAY_",
    "MQTT_",
    "TLS_",
    "JWT_",
    "ENCRYPTION_",
    "ACL_",
    "SERVICE_TOPIC_",
    "HEALTH_",
    "METRICS_",
)
KEY = bytes(range(32))
KEY_TEXT = base64.b64encode(KEY).decode()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    """An empty folder to work in, and an environment without settings."""
    for name in list(os.environ):
        if name.startswith(PREFIXES) or name in {"DATABASE_URL", "REDIS_URL", "LOG_LEVEL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def env(monkeypatch):
    def set_all(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def problems(config_file: Path | None = None, **overrides: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(config_file, **overrides)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_the_defaults_are_the_contracts():
    settings = load_settings()
    assert settings.model_dump() == {
        "mqtt_broker": None,
        "mqtt_port": 1883,
        "mqtt_username": None,
        "mqtt_password": None,
        "mqtt_ca_path": None,
        "gateway_data_dir": Path("data"),
        "database_url": "sqlite:///data/gateway.db",
        "redis_url": None,
        "gateway_mqtt_bind": (Address("0.0.0.0", 8883),),
        "gateway_http_bind": (Address("0.0.0.0", 8443),),
        "gateway_health_bind": (Address("127.0.0.1", 8000),),
        "gateway_proxy_from": (),
        "tls_enabled": True,
        "tls_cert_path": Path("certs/server.crt"),
        "tls_key_path": Path("certs/server.key"),
        "tls_client_ca_path": None,
        "jwt_secret": None,
        "jwt_ttl": 86_400,
        "jwt_chain_max": 30 * 86_400,
        "encryption_key": None,
        "encryption_key_path": Path("data/keys/encryption.key"),
        "acl_path": Path("acl"),
        "monitoring_path": Path("monitoring.toml"),
        "service_topic_prefix": "gateway",
        "gateway_bus_services": False,
        "gateway_on_deny": OnDeny.DROP,
        "gateway_on_denied_will": OnDeniedWill.REFUSE,
        "gateway_node": settings.gateway_node,
        "gateway_workers": 1,
        "metrics_enabled": True,
        "audit_retention": 365 * 86_400,
        "log_level": LogLevel.INFO,
        "log_format": None,
        "health_check_interval": 30,
    }
    assert settings.bus is None
    assert settings.database_path == Path("data/gateway.db")


def test_what_hangs_on_the_data_folder_follows_it():
    settings = load_settings(gateway_data_dir="/var/lib/gateway")
    assert settings.database_url == "sqlite:////var/lib/gateway/gateway.db"
    assert settings.database_path == Path("/var/lib/gateway/gateway.db")
    assert settings.encryption_key_path == Path("/var/lib/gateway/keys/encryption.key")


def test_precedence(folder, env):
    names = [
        "gateway_mqtt_bind",
        "gateway_http_bind",
        "gateway_health_bind",
        "acl_path",
        "service_topic_prefix",
    ]

    def values(source: str) -> dict[str, str]:
        ports = {"toml": 1, "dotenv": 2, "env": 3, "cli": 4}
        return {name: f"127.0.0.1:{ports[source]}" if "bind" in name else source for name in names}

    toml, dotenv, environment, cli = (values(source) for source in ("toml", "dotenv", "env", "cli"))
    (folder / "gateway.toml").write_text("".join(f'{name} = "{toml[name]}"\n' for name in names[:4]))
    (folder / ".env").write_text("".join(f"{name.upper()}={dotenv[name]}\n" for name in names[:3]))
    env(**{name.upper(): environment[name] for name in names[:2]})
    settings = load_settings(gateway_mqtt_bind=cli["gateway_mqtt_bind"], gateway_http_bind=None)
    assert settings.gateway_mqtt_bind[0].port == 4
    assert settings.gateway_http_bind[0].port == 3
    assert settings.gateway_health_bind[0].port == 2
    assert settings.acl_path == Path("toml")
    assert settings.service_topic_prefix == "gateway"


def test_a_named_file_is_read_in_the_place_of_gateway_toml(folder):
    (folder / "gateway.toml").write_text("nonsense = 1\n")
    (folder / "other.toml").write_text('mqtt_broker = "bus"\nmqtt_port = 8884\ntls_enabled = true\n')
    assert load_settings(folder / "other.toml").bus == Address("bus", 8884)
    assert "No such file" in problems(folder / "absent.toml")[0]


def test_dotenv_is_taken_literally(folder):
    (folder / ".env").write_text(
        "# a comment\nexport MQTT_BROKER=bus\nMQTT_USERNAME='a b'\nMQTT_PASSWORD=pa${HOME}ss\n"
        "COMPOSE_PROJECT=x\nEMPTY_ELSEWHERE=\n"
    )
    settings = load_settings()
    assert settings.mqtt_password.reveal() == b"pa${HOME}ss"
    assert settings.mqtt_username == "a b"


OTHERS = [
    "MQTT_HOST",
    "MQTT_HOSTS",
    "MQTT_CLIENT_ID",
    "MQTT_USER",
    "MQTT_PASS",
    "MQTT_TOPIC",
    "MQTT_TLS",
    "METRICS_PORT",
    "METRICS_PATH",
    "METRICSX",
    "LOG_FILE",
    "REDIS_HOST",
    "REDIS_URI",
    "DATABASE_NAME",
    "DATABASE_URI",
    "ACL_FILE",
    "PATH",
    "MTLS_ENABLED",
    "DTLS_CERT_PATH",
    "JWK_SECRET",
    "MQTTS_PORT",
    "MQT_BROKER",
    "LOGS_LEVEL",
    "ENCRYPTON",
    "HEALTH_CHECK_PATH",
    "SERVICE_TOPIC",
]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_names_of_other_programs_do_not_stop_the_start(folder, env, name, source):
    if source == ".env":
        (folder / ".env").write_text(f"{name}=hunter2\n{name.lower()}=\n")
    else:
        env(**{name: "hunter2"})
    _, warnings = read_settings()
    assert warnings == []


@pytest.mark.parametrize("name", ["JWT_ALGORITHM", "TLS_CERT", "ENCRYPTION_MODE", "jwt_expiry", "TLS_CA"])
@pytest.mark.parametrize("value", ["hunter2", ""])
def test_doubtful_names_are_told_without_their_values(folder, name, value):
    (folder / ".env").write_text(f"{name}={value}\n{name}={value}\n")
    _, warnings = read_settings()
    (warning,) = warnings
    assert warning.startswith(f"{name} (.env): there is no such setting")
    assert "hunter2" not in warning


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ENCRYPTON_KEY", "ENCRYPTION_KEY"),
        ("encrypton_key", "encryption_key"),
        ("ENCRYPTIONS_KEY_PATH", "ENCRYPTION_KEY_PATH"),
        ("JTW_SECRET", "JWT_SECRET"),
        ("JW_SECRET_FILE", "JWT_SECRET_FILE"),
        ("TSL_ENABLED", "TLS_ENABLED"),
        ("GATWAY_ON_DENY", "GATEWAY_ON_DENY"),
        ("GATEWAYS_BUS_SERVICES", "GATEWAY_BUS_SERVICES"),
    ],
)
@pytest.mark.parametrize("value", ["hunter2", ""])
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_a_slip_in_the_first_word_is_told_empty_or_not(folder, env, name, near, value, source):
    """It may be another program's, so that it stops nothing; but ours is missing."""
    if source == ".env":
        (folder / ".env").write_text(f"{name}={value}\n")
    else:
        env(**{name: value})
    _, (warning,) = read_settings()
    assert warning.startswith(f"{name} ({source}): there is no such setting")
    assert f"Did you mean {near}?" in warning
    assert "hunter2" not in warning


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("GATEWAY_FOO", None),
        ("GATEWAY_", None),
        ("GATEWAY_NONSENSE", None),
        ("GATEWAY_PORT", None),
        ("GATEWAY_BIND", "GATEWAY_MQTT_BIND"),
        ("GATEWAY_ON_DENIED_WILLS", "GATEWAY_ON_DENIED_WILL"),
        ("GATEWAY_BUS_SERVICE_ENABLED", "GATEWAY_BUS_SERVICES"),
    ],
)
def test_a_hint_is_given_when_near_and_else_where_all_names_are(env, name, near):
    env(**{name: "x"})
    (told,) = problems()
    assert (
        f"Did you mean {near}?" if near else "README.md lists all that there are, under Settings."
    ) in told
    assert ("Did you mean" in told) is (near is not None)


def test_the_readme_lists_every_setting():
    """The hint sends there; what has a file's name of its own stands with its secret."""
    readme = (Path(__file__).parents[3] / "README.md").read_text("utf-8")
    table = readme.split("\n## Settings\n")[1].split("\n## ")[0]
    for name in Settings.model_fields:
        assert f"`{name.upper()}`" in table


SLIPS = [
    ("MQTT_PASWORD", "MQTT_PASSWORD"),
    ("MQTT_PASSWORD_FIEL", "MQTT_PASSWORD_FILE"),
    ("GATEWAY_MQTT_BINDS", "GATEWAY_MQTT_BIND"),
    ("GATEWAY_NONSENSE_WHATSOEVER", None),
    ("JWT_SECRETS", "JWT_SECRET"),
    ("JWT_SECERT", "JWT_SECRET"),
    ("jwt_secert", "jwt_secret"),
    ("JWT_SECREX", "JWT_SECRET"),
    ("ENCRYPTION_KEYPATH", "ENCRYPTION_KEY_PATH"),
    ("ENCRYPTION_KEZ", "ENCRYPTION_KEY"),
    ("TLS_ENABLE", "TLS_ENABLED"),
    ("ACL_PAHT", "ACL_PATH"),
    ("SERVICE_TOPIC_PREFX", "SERVICE_TOPIC_PREFIX"),
    ("HEALTH_CHECK_INTERVALL", "HEALTH_CHECK_INTERVAL"),
    ("METRICS_ENABLE", "METRICS_ENABLED"),
    ("REDIS_ULR", "REDIS_URL"),
    ("LOG_LEVLE", "LOG_LEVEL"),
    ("DATABASE_UR", "DATABASE_URL"),
]


@pytest.mark.parametrize(("variable", "meant"), SLIPS)
@pytest.mark.parametrize("value", ["hunter2", ""])
@pytest.mark.parametrize("source", ["environment", ".env"])
def test_a_slip_of_one_letter_is_an_error_empty_or_not(folder, env, variable, meant, value, source):
    if source == ".env":
        (folder / ".env").write_text(f"{variable}={value}\n")
    else:
        env(**{variable: value})
    guess = f" Did you mean {meant}?" if meant else ""
    (told,) = problems()
    assert told.startswith(f"{variable} ({source}): there is no such setting.{guess}")
    assert told.endswith("Correct or remove it.")
    assert "hunter2" not in told


@pytest.mark.parametrize("name", ["TLS_CLIENT_CRL_PATH", "tls_client_identity", "MQTT_PROXY_PROTOCOL"])
@pytest.mark.parametrize("value", ["x", ""])
def test_a_setting_that_is_not_there_yet_is_not_ignored(env, name, value):
    env(**{name: value})
    (told,) = problems()
    assert told == f"{name} (environment): this version does not have that setting yet. Remove it."


def test_an_unknown_key_in_the_file_is_an_error(folder):
    (folder / "gateway.toml").write_text('mqtt_brokr = "hunter2"\nMQTT_HOST = 1\nzzz = 1\n[mqtt]\nport = 1\n')
    told = problems()
    assert told[0] == (
        "mqtt_brokr (gateway.toml): there is no such setting. Did you mean mqtt_broker? Correct or remove it."
    )
    assert [problem.split()[0] for problem in told] == ["mqtt_brokr", "MQTT_HOST", "zzz", "mqtt"]
    assert "Did you mean" not in told[2]


@pytest.mark.parametrize("name", ["MQTT_PORT", "mqtt_port", "Mqtt_Port"])
@pytest.mark.parametrize("source", ["environment", ".env", "gateway.toml"])
def test_a_name_means_the_same_in_any_case(folder, env, name, source):
    if source == "environment":
        env(**{name: "21883"})
    else:
        (folder / source).write_text(f"{name} = 21883\n")
    assert load_settings().mqtt_port == 21883


@pytest.mark.parametrize("source", ["environment", ".env", "gateway.toml"])
def test_two_spellings_of_one_name_in_one_source_are_an_error(folder, env, source):
    if source == "environment":
        env(MQTT_PORT="1", mqtt_port="1")
    else:
        (folder / source).write_text("MQTT_PORT=1\nmqtt_port=1\n")
    (told,) = problems()
    assert f"MQTT_PORT ({source})" in told
    assert f"mqtt_port ({source})" in told
    # In two sources the stronger one counts.
    (folder / source).unlink(missing_ok=True)


def test_spellings_in_two_sources_are_settled_by_precedence(folder, env):
    (folder / ".env").write_text("mqtt_port=1\n")
    env(MQTT_PORT="2")
    assert load_settings().mqtt_port == 2


@pytest.mark.parametrize("name", ["MQTT_PORT", "log_level", "ACL_PATH", "MQTT_USERNAME", "GATEWAY_MQTT_BIND"])
def test_an_empty_value_is_no_value(folder, env, name):
    (folder / "gateway.toml").write_text(f'{name} = ""\n')
    (folder / ".env").write_text(f"{name}=\n")
    env(**{name: ""})
    assert load_settings() == Settings()


def test_below_an_empty_value_the_weaker_source_counts(folder, env):
    (folder / ".env").write_text("MQTT_PORT=5\n")
    env(MQTT_PORT="")
    assert load_settings().mqtt_port == 5


@pytest.mark.parametrize(
    "name",
    [
        "ENCRYPTION_KEY",
        "encryption_key",
        "ENCRYPTION_KEY_FILE",
        "JWT_SECRET",
        "JWT_SECRET_FILE",
        "MQTT_PASSWORD",
        "TLS_CLIENT_CA_PATH",
        "MQTT_CA_PATH",
    ],
)
@pytest.mark.parametrize("source", ["environment", ".env", "gateway.toml"])
def test_an_empty_secret_or_ca_is_an_error(folder, env, name, source):
    if source == "environment":
        env(**{name: ""})
    else:
        (folder / source).write_text(f'{name}=""\n')
    (told,) = problems()
    assert told.startswith(f"{name} ({source}): it is empty")


@pytest.mark.parametrize("name", [".env", "gateway.toml"])
def test_a_bom_at_the_head_hides_no_setting(folder, name):
    (folder / name).write_bytes(b"\xef\xbb\xbfMQTT_PORT=21883\n")
    assert load_settings().mqtt_port == 21883


def test_a_bom_is_no_part_of_a_secret(folder, env):
    (folder / "secret").write_bytes(b"\xef\xbb\xbf" + b"x" * 32 + b"\r\n")
    env(JWT_SECRET_FILE="secret")
    assert load_settings().jwt_secret.reveal() == b"x" * 32
    (folder / "secret").write_bytes(b"\xef\xbb\xbf\n")
    (told,) = problems()
    assert "secret is empty" in told


def test_what_kubernetes_sets_is_explained(env):
    env(
        GATEWAY_SERVICE_HOST="10.0.0.1",
        GATEWAY_PORT_8883_TCP_ADDR="10.0.0.1",
        MQTT_PORT="tcp://10.0.0.2:1883",
    )
    told = problems()
    assert len(told) == 3
    assert all("enableServiceLinks: false" in problem for problem in told)


def test_everything_is_told_at_once_and_no_secret_is(folder, env):
    (folder / "gateway.toml").write_text('log_level = "loud"\n')
    (folder / ".env").write_text("HEALTH_CHECK_INTERVAL=0\nMETRICS_ENABLED=perhaps\n")
    env(
        MQTT_BROKER="mqtt://user:hunter2@host",
        MQTT_PORT="70000",
        MQTT_PASWORD="hunter2",
        JWT_SECRET="hunter2",
        ENCRYPTION_KEY="hunter2",
        DATABASE_URL="mysql://user:hunter2@host/db",
        REDIS_URL="http://user:hunter2@host",
        JWT_TTL="forever",
        GATEWAY_MQTT_BIND="8883",
        GATEWAY_ON_DENY="explode",
        GATEWAY_WORKERS="4",
        SERVICE_TOPIC_PREFIX="a/#",
        TLS_ENABLED="false",
        TLS_CLIENT_CA_PATH="ca.crt",
        TLS_KEY_PTAH="",
    )
    told = problems(gateway_health_bind="nowhere")
    named = {problem.split(":")[0] for problem in told}
    assert named == {
        "log_level (gateway.toml)",
        "HEALTH_CHECK_INTERVAL (.env)",
        "METRICS_ENABLED (.env)",
        "MQTT_BROKER (environment)",
        "MQTT_PORT (environment)",
        "MQTT_PASWORD (environment)",
        "JWT_SECRET (environment)",
        "ENCRYPTION_KEY (environment)",
        "DATABASE_URL (environment)",
        "REDIS_URL (environment)",
        "JWT_TTL (environment)",
        "GATEWAY_MQTT_BIND (environment)",
        "GATEWAY_ON_DENY (environment)",
        "GATEWAY_WORKERS (environment)",
        "SERVICE_TOPIC_PREFIX (environment)",
        "TLS_ENABLED (environment)",  # the default GATEWAY_HTTP_BIND is for TLS
        "TLS_ENABLED (environment) and TLS_CLIENT_CA_PATH (environment)",
        "TLS_KEY_PTAH (environment)",
        "gateway_health_bind (command line)",
    }
    assert len(told) == len(named)
    assert "hunter2" not in "\n".join(told)
    remedies = ("Give ", "Correct ", "remove ")
    assert all(any(remedy in problem for remedy in remedies) for problem in told)


def test_a_wrong_secret_shows_in_no_error_of_the_model():
    with pytest.raises(ValueError, match="shorter") as caught:
        Settings(jwt_secret="hunter2")
    assert "hunter2" not in str(caught.value)


def test_secrets_show_in_no_repr(env):
    env(
        MQTT_BROKER="bus",
        MQTT_USERNAME="gateway",
        MQTT_PASSWORD="hunter2",
        JWT_SECRET="hunter2" * 5,
        ENCRYPTION_KEY=KEY.hex(),
        REDIS_URL="redis://:hunter2@host",
    )
    settings = load_settings()
    for shown in (repr(settings), str(settings), repr(settings.model_dump(exclude={"redis_url"}))):
        assert "hunter2" not in shown
        assert KEY.hex() not in shown
    assert settings.mqtt_password.reveal() == b"hunter2"
    assert settings.redis_url == "redis://:hunter2@host"


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("MQTT_PASSWORD", "päss word\n", "päss word".encode()),
        ("MQTT_PASSWORD", "trailing space \r\n", b"trailing space "),
        ("MQTT_PASSWORD", "two\n\n", b"two\n"),
        ("JWT_SECRET", "x" * 32, b"x" * 32),
    ],
)
def test_a_secret_may_stand_in_a_file(folder, env, name, value, read):
    (folder / "secret").write_bytes(value.encode())
    env(MQTT_BROKER="bus", MQTT_USERNAME="gateway", **{f"{name}_FILE": str(folder / "secret")})
    assert getattr(load_settings(), name.lower()).reveal() == read


def test_urls_may_stand_in_a_file_too(folder, env):
    (folder / "redis").write_text("rediss://host/1\n")
    (folder / "gateway.toml").write_text('redis_url_file = "redis"\ndatabase_url_file = "db"\n')
    (folder / "db").write_text("sqlite:///x.db\n")
    settings = load_settings()
    assert (settings.redis_url, settings.database_url) == ("rediss://host/1", "sqlite:///x.db")


def test_secret_files_that_are_of_no_use(folder, env):
    (folder / "empty").write_text("\n")
    (folder / "binary").write_bytes(b"\xff\xfe")
    (folder / "short").write_text("hunter2")
    (folder / "gateway.toml").write_text('redis_url = "redis://host"\n')
    env(
        MQTT_PASSWORD_FILE="absent",
        DATABASE_URL_FILE="empty",
        ENCRYPTION_KEY_FILE="binary",
        JWT_SECRET_FILE="short",
        REDIS_URL_FILE="short",
    )
    told = problems()
    assert [problem.split(".")[0] for problem in sorted(told)] == [
        "DATABASE_URL_FILE (environment): empty is empty",
        "ENCRYPTION_KEY_FILE (environment): binary is not UTF-8 text",
        "JWT_SECRET_FILE (environment): this is shorter than 32 bytes, and short keys can be guessed",
        "MQTT_PASSWORD_FILE (environment): absent cannot be read (No such file or directory)",
        "REDIS_URL_FILE (environment) and redis_url (gateway",
    ]
    assert "hunter2" not in "".join(told)


@pytest.mark.parametrize(
    "text",
    [
        KEY_TEXT,
        base64.urlsafe_b64encode(b"\xff" * 32).decode(),
        KEY.hex(),
        KEY.hex().upper(),
    ],
)
def test_keys(env, text):
    env(ENCRYPTION_KEY=text)
    wrapping = load_settings().encryption_key
    assert wrapping.secret.reveal() in {KEY, b"\xff" * 32}
    assert not wrapping.is_passphrase


@pytest.mark.parametrize(
    "text",
    [
        "00" * 31,
        "00" * 33,
        base64.b64encode(b"x" * 31).decode(),
        "ü" * 16,
        "four words of mine",
        "!" + KEY_TEXT,
    ],
)
def test_what_is_no_key_is_a_passphrase(env, text):
    env(ENCRYPTION_KEY=text)
    wrapping = load_settings().encryption_key
    assert wrapping.secret.reveal() == text.encode()
    assert wrapping.is_passphrase


@pytest.mark.parametrize("text", ["x" * 15, "ü" * 15, "00" * 7])
def test_a_passphrase_that_is_too_short(env, text):
    env(ENCRYPTION_KEY=text)
    (told,) = problems()
    assert "neither a key of 32 bytes nor a passphrase of 16 characters" in told
    assert text not in told


def test_the_key_that_wraps_the_keys_may_stand_in_a_file(folder, env):
    (folder / "secret").write_text(KEY.hex() + "\n")
    env(ENCRYPTION_KEY_FILE=str(folder / "secret"))
    assert load_settings().encryption_key.secret.reveal() == KEY


def test_the_signing_keys_are_beside_the_sealing_keys(env):
    assert load_settings().signing_key_path == Path("data/keys/signing.key")
    env(ENCRYPTION_KEY_PATH="/srv/keys/payload.key")
    assert load_settings().signing_key_path == Path("/srv/keys/signing.key")


@pytest.mark.parametrize(("text", "long_enough"), [("x" * 31, False), ("ü" * 15, False), ("ü" * 16, True)])
def test_the_token_secret_is_measured_in_bytes(env, text, long_enough):
    env(JWT_SECRET=text)
    if long_enough:
        assert load_settings().jwt_secret.reveal() == text.encode()
    else:
        assert "shorter than 32 bytes" in problems()[0]


def test_a_secret_that_is_no_utf8_keeps_its_bytes(monkeypatch):
    monkeypatch.setitem(os.environb, b"JWT_SECRET", b"\xff" * 32)
    assert load_settings().jwt_secret.reveal() == b"\xff" * 32


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("localhost:8883", Address("localhost", 8883)),
        ("[::1]:8883", Address("::1", 8883)),
        ("[::]:65535", Address("::", 65535)),
        ("edge-7.example.org:1", Address("edge-7.example.org", 1)),
    ],
)
def test_binds(text, address):
    assert load_settings(gateway_mqtt_bind=text).gateway_mqtt_bind == (address,)
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "8883",
        ":8883",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "::1:8883",
        "[zz]:1",
        "a b:1",
        "*:1",
        "h:²",
    ],
)
def test_binds_that_are_none(text):
    (told,) = problems(gateway_mqtt_bind=text)
    assert "Give host:port, such as 0.0.0.0:8883 or [::]:8883, or several" in told


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example.org", False),
    ],
)
@pytest.mark.parametrize("setting", ["gateway_mqtt_bind", "gateway_http_bind"])
def test_without_tls_on_loopback_only(host, loopback, setting):
    bind = str(Address(host, 1883))
    binds = {"gateway_mqtt_bind": "127.0.0.1:0", "gateway_http_bind": "127.0.0.1:0", setting: bind}
    if loopback:
        assert not load_settings(tls_enabled="false", **binds).tls_enabled
    else:
        (told,) = problems(tls_enabled=False, **binds)
        assert told == (
            f"tls_enabled (command line) and {setting} (command line): without TLS the gateway listens on "
            f"loopback only. Give {setting.upper()} 127.0.0.1:1883, or leave TLS on."
        )


@pytest.mark.parametrize(
    "text", ["127.0.0.1:1,[::1]:1", " 127.0.0.1:1 , [::1]:1", ["127.0.0.1:1", "[::1]:1"]]
)
def test_a_bind_takes_a_list(folder, text):
    listed = (Address("127.0.0.1", 1), Address("::1", 1))
    assert load_settings(gateway_mqtt_bind=text).gateway_mqtt_bind == listed
    (folder / "gateway.toml").write_text('gateway_health_bind = ["127.0.0.1:1", "[::1]:1"]\n')
    assert load_settings().gateway_health_bind == listed


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:1,", "a:1,,b:1", ",", "127.0.0.1:1,[zz]:1", "a:1,a:1", "[::]:1,[::1]:1"],
)
def test_lists_of_binds_that_are_none(text):
    assert len(problems(gateway_mqtt_bind=text)) == 1


@pytest.mark.parametrize(
    ("mqtt", "http", "equal"),
    [
        ("127.0.0.1:9", "127.0.0.1:9", True),
        ("0.0.0.0:9", "127.0.0.1:9", True),
        ("[::]:9", "127.0.0.1:9", True),
        ("[::]:9", "0.0.0.0:9", True),
        ("localhost:9", "127.0.0.1:9", True),
        ("[::1]:9,127.0.0.1:7", "127.0.0.1:8,127.0.0.1:7", True),
        ("[::1]:9", "127.0.0.1:9", False),
        ("[::1]:9", "0.0.0.0:9", False),
        ("127.0.0.1:9", "127.0.0.2:9", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_two_equal_binds_are_a_problem(mqtt, http, equal):
    if not equal:
        load_settings(gateway_mqtt_bind=mqtt, gateway_http_bind=http)
        return
    (told,) = problems(gateway_mqtt_bind=mqtt, gateway_http_bind=http)
    assert "GATEWAY_MQTT_BIND" in told
    assert "GATEWAY_HTTP_BIND" in told
    assert "can't both be listened at" in told


def test_a_bind_that_equals_a_default_is_a_problem_too():
    (told,) = problems(gateway_mqtt_bind="127.0.0.1:8000")
    assert "GATEWAY_HEALTH_BIND 127.0.0.1:8000" in told


def test_without_tls_the_default_addresses_are_refused():
    told = problems(tls_enabled=False)
    assert ["GATEWAY_MQTT_BIND" in told[0], "GATEWAY_HTTP_BIND" in told[1], len(told)] == [True, True, 2]


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86_400), ("90m", 5_400), ("30s", 30), ("7d", 604_800), ("366d", 31_622_400)]
)
def test_durations(text, seconds):
    assert load_settings(jwt_ttl=text).jwt_ttl == seconds


@pytest.mark.parametrize("text", ["24", "h", "-1h", "1.5h", "0s", "367d", "1 h", "1h30m", "24H", 3600])
def test_durations_that_are_none(text):
    assert "such as 24h" in problems(jwt_ttl=text)[0]


@pytest.mark.parametrize("text", ["gateway", "a/b/c", "site-1/gateway", "ü"])
def test_service_prefixes(text):
    assert load_settings(service_topic_prefix=text).service_topic_prefix == text


@pytest.mark.parametrize("text", ["/", "/a", "a/", "a//b", "+", "a/#", "a+b", "$SYS", "a\n", "x" * 257])
def test_service_prefixes_that_are_none(text):
    assert "plain topic levels" in problems(service_topic_prefix=text)[0]


@pytest.mark.parametrize(
    "text", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///a?b", "mysql://h/d", "a.db"]
)
def test_databases_that_are_none(text):
    assert "sqlite:///path/to/file.db" in problems(database_url=text)[0]


def test_postgresql_is_not_yet_there(env):
    env(DATABASE_URL="postgresql://user:hunter2@host/db")
    (told,) = problems()
    assert "SQLite only" in told
    assert "hunter2" not in told


def test_the_bus():
    assert load_settings(mqtt_broker="10.0.0.1", mqtt_port="1884").bus == Address("10.0.0.1", 1884)
    assert load_settings(mqtt_broker="fd00::1").bus == Address("fd00::1", 1883)
    for broker in ("mqtt://bus", "bus:1883", "a b", "-a", "user@bus"):
        assert "host name or address alone; its port is MQTT_PORT" in problems(mqtt_broker=broker)[0]


@pytest.mark.parametrize("name", ["mqtt_username", "mqtt_password", "mqtt_ca_path"])
def test_what_is_meant_for_a_bus_that_is_not_named(name):
    """The embedded bus would be started, and messages end where nobody looks for them."""
    (told,) = problems(**{name: "x"})
    assert told == (
        f"{name} (command line): no bus is named, and an embedded one would be started. "
        "Set MQTT_BROKER, or remove it."
    )


def test_a_password_needs_a_user_name():
    (told,) = problems(mqtt_broker="bus", mqtt_password="hunter2")
    assert "Set MQTT_USERNAME" in told
    assert "hunter2" not in told


def test_names_of_choices_in_any_case(env):
    env(LOG_LEVEL="DEBUG", GATEWAY_ON_DENY="Disconnect")
    settings = load_settings()
    assert (settings.log_level, settings.gateway_on_deny) == (LogLevel.DEBUG, OnDeny.DISCONNECT)


def test_files_that_cannot_be_understood(folder):
    (folder / "gateway.toml").write_text("a = \n")
    (folder / ".env").write_text("MQTT_PORT=1\n=hunter2\nMQTT_BROKER\n")
    told = problems()
    assert told[0].startswith("gateway.toml: it is not TOML: Invalid value (at line 1")
    assert told[1:] == [
        ".env: line 2 is not NAME=value. Correct or remove it.",
        ".env: line 3 is not NAME=value. Correct or remove it.",
    ]


def test_files_that_cannot_be_read(folder):
    (folder / "gateway.toml").write_bytes(b"\xff")
    (folder / ".env").mkdir()
    told = problems()
    assert told[0].startswith("gateway.toml: it is not TOML")
    assert told[1].startswith(".env: it cannot be read")
    (folder / "gateway.toml").unlink()
    (folder / "gateway.toml").mkdir()
    assert problems()[0].startswith("gateway.toml: it cannot be read")


def test_settings_cannot_be_changed():
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.tls_enabled = False


class TestFiles:
    """What `gateway check` finds before anything is started."""

    @pytest.fixture(autouse=True)
    def acl(self, folder):
        (folder / "acl").mkdir()

    def test_a_first_start_lacks_nothing(self):
        assert file_problems(load_settings()) == []

    def test_nor_does_a_second(self, folder):
        ensure_server_certificate(folder / "certs/server.crt", folder / "certs/server.key")
        (folder / "data").mkdir()
        ca = folder / "certs/ca.crt"
        assert file_problems(load_settings(mqtt_broker="bus", mqtt_ca_path=ca, tls_client_ca_path=ca)) == []

    @pytest.mark.parametrize("name", ["server.crt", "server.key"])
    def test_half_a_pair(self, folder, name):
        ensure_server_certificate(folder / "certs/server.crt", folder / "certs/server.key")
        (folder / "certs" / name).unlink()
        (told,) = file_problems(load_settings())
        assert f"certs/{name} is missing" in told
        assert told.startswith("TLS_CERT_PATH" if name.endswith("crt") else "TLS_KEY_PATH")
        binds = {"gateway_mqtt_bind": "127.0.0.1:0", "gateway_http_bind": "127.0.0.1:0"}
        assert file_problems(load_settings(tls_enabled=False, **binds)) == []

    def test_a_pair_that_does_not_belong_together(self, folder):
        for name in ("a", "b"):
            ensure_server_certificate(folder / name / "s.crt", folder / name / "s.key")
        (told,) = file_problems(load_settings(tls_cert_path="a/s.crt", tls_key_path="b/s.key"))
        assert "b/s.key is not the key of the first certificate in a/s.crt" in told
        assert "belong together" in told

    def test_what_is_no_certificate(self, folder):
        (folder / "x").write_text("nonsense")
        settings = load_settings(
            tls_cert_path="x",
            tls_key_path="x",
            tls_client_ca_path="x",
            mqtt_broker="bus",
            mqtt_ca_path="absent",
        )
        told = file_problems(settings)
        assert [problem.split(":")[0] for problem in told] == [
            "TLS_CERT_PATH, TLS_KEY_PATH",
            "TLS_CLIENT_CA_PATH",
            "MQTT_CA_PATH",
        ]
        assert "No such file" in told[2]

    def test_a_key_with_a_passphrase_asks_nobody(self, folder):
        from cryptography.hazmat.primitives import serialization as pem

        certificate, key = folder / "certs/server.crt", folder / "certs/server.key"
        ensure_server_certificate(certificate, key)
        loaded = pem.load_pem_private_key(key.read_bytes(), None)
        encryption = pem.BestAvailableEncryption(b"x")
        key.write_bytes(loaded.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, encryption))
        (told,) = file_problems(load_settings())
        assert "without a passphrase" in told

    def test_folders_that_are_none(self, folder):
        (folder / "file").write_text("")
        (folder / "script").write_text("")
        (folder / "script").chmod(0o755)
        settings = load_settings(acl_path="script", gateway_data_dir="file/data")
        assert [problem.split(":")[0] for problem in file_problems(settings)] == [
            "ACL_PATH",
            "GATEWAY_DATA_DIR",
            "DATABASE_URL",
            "ENCRYPTION_KEY_PATH",
        ]


def test_a_chain_of_tokens_is_as_old_as_one_of_them_at_least():
    assert load_settings(jwt_ttl="366d").jwt_chain_max == 366 * 86_400
    assert load_settings(jwt_ttl="1h").jwt_chain_max == CHAIN_MAX == 30 * 86_400
    assert load_settings(jwt_chain_max="24h").jwt_chain_max == 86_400
    (problem,) = problems(jwt_chain_max="23h")
    assert problem.startswith("jwt_chain_max (command line): a token would outlive the chain")
    assert "such as 30d" in problems(jwt_chain_max="0s")[0]
