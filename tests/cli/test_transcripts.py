"""Each file of transcripts/ is a session at a shell: commands, what they print, how they end.

`$ command` is run in the folder of the session. Below it stands what it prints on stdout, then what
it prints on stderr, each of those lines with `! ` before it. `...` stands for any text in a line.
`[n]` is the exit code, 0 if there is none. Lines that begin with # are comments.
"""

import re
from pathlib import Path

import pytest

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


def sessions(text):
    """Each command with its expected lines and exit code."""
    command, expected, code = "", [], 0
    for line in [*text.splitlines(), "$ "]:
        if line.startswith("$ "):
            if command:
                yield command, expected, code
            command, expected, code = line[2:], [], 0
        elif re.fullmatch(r"\[\d+\]", line):
            code = int(line[1:-1])
        elif line and not line.startswith("#"):
            expected.append(line)


def fits(expected, printed):
    pattern = ".*".join(map(re.escape, expected.split("...")))
    return re.fullmatch(pattern, printed) is not None


def test_there_are_transcripts():
    assert TRANSCRIPTS


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_session_goes_as_written(path, place):
    for command, expected, code in sessions(path.read_text("utf-8")):
        ended, stdout, stderr = place.shell(command)
        printed = [line for line in stdout.splitlines() if line]
        printed += [f"! {line}" for line in stderr.splitlines() if line]
        told = "\n".join([f"$ {command}", *printed, f"[{ended}]"])
        assert len(printed) == len(expected), told
        for wanted, line in zip(expected, printed, strict=True):
            assert fits(wanted, line), f"expected: {wanted}\n{told}"
        assert ended == code, told
