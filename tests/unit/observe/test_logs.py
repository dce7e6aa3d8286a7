"""A log line keeps its shape and its secrets, whatever is put into it."""

import io
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from enum import Enum
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.observe import logs

SECRET = "hunter2-planted-secret"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_fixed_fields_first(stream):
    logs.get_logger(device="lamp-1").info("connected", address="127.0.0.1:5", client_id="c")
    (line,) = lines(stream)
    assert list(line) == ["ts", "level", "event", "device", "address", "client_id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("ts"))
    assert line == {
        "level": "info",
        "event": "connected",
        "device": "lamp-1",
        "address": "127.0.0.1:5",
        "client_id": "c",
    }


def test_the_level_filters(stream):
    logs.get_logger().debug("hidden")
    logs.configure("debug", stream)
    logs.get_logger().debug("seen")
    assert [line["event"] for line in lines(stream)] == ["seen"]


def test_a_field_that_is_not_there_is_left_out(stream):
    logs.get_logger().info("e", device=None)
    assert "device" not in lines(stream)[0]


@pytest.mark.parametrize(
    "name",
    ["password", "MQTT_PASSWORD", "secret", "jwt_secret", "token", "credential", "credentials",
     "authorization", "key", "encryption_key", "api-key", "apiKey", "keys", "passphrase", "private_key"],
)  # fmt: skip
def test_a_value_whose_name_speaks_of_a_secret_is_masked(stream, name):
    logs.get_logger().info("e", **{name: SECRET})
    logs.get_logger().info("e", settings={"deep": [{name: SECRET}]})
    assert SECRET not in stream.getvalue()
    assert lines(stream)[0][name] == logs.MASK
    assert lines(stream)[1]["settings"] == {"deep": [{name: logs.MASK}]}


@pytest.mark.parametrize("name", ["key_id", "monkey", "device", "keyboard", "topic"])
def test_a_harmless_name_is_shown(stream, name):
    logs.get_logger().info("e", **{name: "k3"})
    assert lines(stream)[0][name] == "k3"


class Masked:
    def __init__(self, value):
        self.value = value

    def __repr__(self):
        return "Masked(********)"


@pytest.mark.parametrize(
    "value",
    [
        SECRET.encode(),
        bytearray(SECRET.encode()),
        Masked(SECRET),
        [Masked(SECRET)],
        f"postgresql://gateway:{SECRET}@db/gateway",
        f"cannot open postgresql://gateway:p@{SECRET}@db/gateway",
        OSError(f"redis://:{SECRET}@cache"),
        {"a": {"b": {"c": {"d": {"password": SECRET}}}}},
        {"payload": SECRET.encode()},
    ],
)
def test_a_secret_inside_a_value_is_not_shown(stream, value):
    logs.get_logger().info("e", reason=value)
    assert SECRET not in stream.getvalue()
    assert len(lines(stream)) == 1


def test_a_traceback_hides_the_user_of_a_url(stream):
    try:
        raise OSError(f"postgresql://gateway:{SECRET}@db")
    except OSError:
        logs.get_logger().exception("broken")
    assert SECRET not in stream.getvalue()
    assert "OSError: postgresql://" in lines(stream)[0]["exception"]


def test_values_that_json_does_not_know(stream):
    class Colour(Enum):
        RED = 7

    logs.get_logger().info("e", a=Colour.RED, b=2**80, c=PurePosixPath("x/y"), d={3: (1, None, 2.5)}, f=True)
    line = lines(stream)[0]
    assert (line["a"], line["b"], line["c"], line["d"], line["f"]) == (
        "red",
        str(2**80),
        "x/y",
        {"3": [1, None, 2.5]},
        True,
    )


def test_a_long_value_and_a_long_list_are_cut(stream):
    logs.get_logger().info(
        "e", topic="a" * 70_000, topics=["t"] * 1_000, mapping={str(i): i for i in range(99)}
    )
    line = lines(stream)[0]
    assert line["topic"] == "a" * 1_024 + "... (70000 characters)"
    assert len(line["topics"]) == len(line["mapping"]) == 32


def test_the_fixed_fields_cannot_be_overwritten(stream):
    logs.get_logger().info("e", level="forged", ts="forged")
    line = lines(stream)[0]
    assert line["level"] == "info"
    assert line["ts"] != "forged"


nasty = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from("\n\r\x1b\x7f\x85\x9b\u2028\u2029\u202e\u2066\ufeff\ud800\udfff\x00\t"),
    )
)


@given(value=nasty, name=nasty)
@example(value="half a pair \ud800", name="\udfff")
def test_no_text_breaks_a_json_line_or_reaches_a_terminal_as_control(value, name):
    stream = io.StringIO()
    logs.configure("info", stream)
    logs.get_logger().info(value, topic=value, mapping={"n" + name: value})
    text = stream.getvalue()
    assert text.endswith("\n")
    body = text[:-1]
    assert body == "".join(body.splitlines())
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", body)
    assert set(json.loads(body)) == {"ts", "level", "event", "topic", "mapping"}


@given(value=nasty, name=nasty)
@example(value="half a pair \ud800", name="\udfff")
def test_no_text_breaks_a_console_line(value, name):
    stream = Terminal()
    logs.configure("info", stream)
    logs.get_logger().info(value, topic=value, mapping={"n" + name: value})
    body = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()[:-1], count=4)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", body)


def test_the_console_line_is_short_and_coloured(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    logs.configure("info", stream)
    logs.get_logger().warning("audit", device="lamp-1", reason="no rule", topic="")
    line = stream.getvalue()
    assert "\x1b[33mwarning \x1b[0m" in line
    assert line.endswith('audit  device=lamp-1 reason="no rule" topic=""\n')
    monkeypatch.setenv("NO_COLOR", "1")
    logs.get_logger().warning("audit")
    assert "\x1b" not in stream.getvalue()[len(line) :]


def test_a_traceback_on_the_console_is_indented(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    logs.configure("info", stream)
    try:
        raise ValueError("forged\nline\x1b[2J")
    except ValueError:
        logs.get_logger().exception("broken")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("error    broken")
    assert all(line.startswith("    ") for line in rest)
    assert rest[-1] == "    line\\u001b[2J"


def test_other_libraries_speak_in_the_same_lines_from_warning_on(stream):
    library = logging.getLogger("somebody.else")
    library.info("quiet")
    library.warning("port %d\nforged", 80)
    library.log(35, "between")
    try:
        raise ValueError("x")
    except ValueError:
        library.exception("failed")
    assert [(line["level"], line["event"]) for line in lines(stream)] == [
        ("warning", "port 80\nforged"),
        ("warning", "between"),
        ("error", "failed"),
    ]
    assert {line["logger"] for line in lines(stream)} == {"somebody.else"}
    assert "ValueError: x" in lines(stream)[2]["exception"]


def test_a_line_of_another_library_that_does_not_fit_its_arguments_is_shown_as_it_is(stream):
    record = logging.LogRecord("other", logging.WARNING, __file__, 1, "only %d", (1, 2), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logs._OtherLibraries):
            handler.emit(record)
    assert [line["event"] for line in lines(stream)] == ["only %d"]


def test_warnings_of_python_are_lines_too(stream):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("info", stream)
        warnings.warn("look", RuntimeWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "RuntimeWarning: look" in lines(stream)[0]["event"]


def test_a_reader_that_went_away_does_not_stop_the_process():
    code = (
        "import os, sys\n"
        "from gateway.observe import logs\n"
        "logs.configure('info')\n"
        "log = logs.get_logger()\n"
        "read, write = os.pipe()\n"
        "os.dup2(write, 2); os.close(write); os.close(read)\n"
        "log.info('into the void'); log.info('again')\n"
        "sys.stderr.close()\n"
        "log.info('closed'); print('alive')\n"
        "sys.stderr = None; logs.configure('info'); log.info('none'); print('well')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["alive", "well"]


def test_a_process_started_without_stderr_logs_nothing_and_lives():
    code = (
        "from gateway.observe import logs as l; l.configure('info'); l.get_logger().info('e'); print('alive')"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code],
        stdout=subprocess.PIPE, text=True, timeout=60, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "alive\n")
