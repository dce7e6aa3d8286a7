"""Which Python requirements/make-venv.sh takes: pretended ones, each with what its builder told configure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "requirements" / "make-venv.sh"
OPTIMISED = "--prefix=/usr --enable-optimizations --with-lto"
PLAIN = "--prefix=/root/.pyenv/versions/3.11.7 --enable-shared"


class Machine:
    """A `python3` on PATH and one where the distribution has its own, in a folder instead of /usr/bin."""

    def __init__(self, folder: Path) -> None:
        self.on_path, self.distribution, self.venv = folder / "path", folder / "usr", folder / "venv"
        self.on_path.mkdir()
        self.distribution.mkdir()
        text = SCRIPT.read_text()
        assert "distribution=/usr/bin/python3\n" in text
        self.script = folder / "make-venv.sh"
        self.script.write_text(text.replace("/usr/bin/python3", f"{self.distribution}/python3"))

    def python(self, folder: Path, name: str, configured: str, **traits: int) -> None:
        """Answers the script's questions as such a Python would; its environment is a file with its path."""
        old, venv, runs, makes = ({"old": 0, "venv": 1, "runs": 1, "makes": 1} | traits).values()
        program = folder / name
        configuration = (
            "import sys, sysconfig; sysconfig.get_config_var = {'CONFIG_ARGS': sys.argv.pop(1)}.get; "
            "exec(sys.stdin.read())"
        )
        program.write_text(
            f"""#!/bin/sh
case "$1$2" in
    -c) [ {runs} = 1 ] || {{ echo "pyenv: $0: command not found" >&2; exit 127; }} ;;
    -c*version_info*) exit {old} ;;
    -c*ensurepip*) exit {1 - venv} ;;
    -mvenv) rm -f "$4" && echo "{program}" > "$4" && [ {makes} = 1 ] ;;
    -*) exec {sys.executable} -c "{configuration}" '{configured}' "$2" ;;
esac
"""
        )
        program.chmod(0o755)

    def make(self, *words: str, expected: int = 0) -> str:
        """What the script says."""
        done = subprocess.run(
            ["sh", self.script, self.venv, *words],
            env={**os.environ, "PATH": f"{self.on_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    def taken(self) -> Path:
        return Path(self.venv.read_text().strip())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_optimised_python_of_the_distribution_comes_before_a_plain_one_and_that_is_said(machine):
    machine.python(machine.on_path, "python3", PLAIN)
    machine.python(machine.distribution, "python3", PLAIN)
    said = machine.make()
    assert machine.taken() == machine.distribution / "python3"
    assert str(machine.on_path / "python3") in said
    assert "PYTHON=python3" in said


def test_an_optimised_python_on_path_is_taken_without_a_word(machine):
    machine.python(machine.on_path, "python3", OPTIMISED)
    machine.python(machine.distribution, "python3", PLAIN)
    assert machine.make() == ""
    assert machine.taken() == machine.on_path / "python3"


@pytest.mark.parametrize("lack", [{"old": 1}, {"venv": 0}, {"runs": 0}])
def test_where_the_first_python_on_path_will_not_do_the_distributions_is_taken(machine, lack):
    machine.python(machine.on_path, "python3", OPTIMISED, **lack)
    machine.python(machine.distribution, "python3", PLAIN)
    said = machine.make()
    assert machine.taken() == machine.distribution / "python3"
    assert {"old": "older", "venv": "no venv module", "runs": "does not run"}[next(iter(lack))] in said


@pytest.mark.parametrize("configured", [PLAIN, OPTIMISED])
def test_the_distributions_python_is_taken_without_a_word_where_it_is_the_first_on_path(machine, configured):
    machine.python(machine.distribution, "python3", PLAIN)
    (machine.on_path / "python3").symlink_to(machine.distribution / "python3")
    real = Path(os.path.realpath(sys.executable))
    # What it says of itself is where it runs, which for a pretended one is where pytest's does.
    machine.script.write_text(
        machine.script.read_text().replace(f"{machine.distribution}/python3", str(real))
    )
    assert machine.make() == ""
    assert machine.taken() == machine.distribution / "python3"


@pytest.mark.parametrize("lack", [{"old": 1}, {"venv": 0}, {"runs": 0}, None])
def test_a_plain_python_is_taken_where_the_distribution_has_none_that_will_do(machine, lack):
    machine.python(machine.on_path, "python3", PLAIN)
    if lack is not None:
        machine.python(machine.distribution, "python3", PLAIN, **lack)
    machine.make()
    assert machine.taken() == machine.on_path / "python3"


def test_a_python_that_is_named_is_taken_however_it_was_built(machine):
    machine.python(machine.on_path, "python3", OPTIMISED)
    machine.python(machine.on_path, "python3.13", PLAIN)
    machine.python(machine.distribution, "python3", PLAIN)
    assert machine.make("python3.13") == ""
    assert machine.taken() == machine.on_path / "python3.13"


def test_what_is_wrong_with_a_python_is_said_with_what_to_do(machine):
    machine.python(machine.on_path, "python-old", PLAIN, old=1)
    machine.python(machine.on_path, "python-bare", PLAIN, venv=0)
    machine.python(machine.on_path, "python-broken", PLAIN, runs=0)
    machine.python(machine.on_path, "python-full-disk", PLAIN, makes=0)
    assert "make setup PYTHON=python3.12" in machine.make("python-old", expected=1)
    assert "command not found" in machine.make("python-broken", expected=1)
    assert "could not make" in machine.make("python-full-disk", expected=1)
    assert "apt-get install python3-venv" in machine.make("python-bare", expected=1)
    assert "there is no python-none" in machine.make("python-none", expected=1)
    assert not machine.venv.exists()


def test_where_there_is_no_python_at_all_it_is_said_how_to_get_one(machine):
    bare = {"PATH": str(machine.on_path)}
    for tool in ("sh", "dirname", "head"):
        (machine.on_path / tool).symlink_to(shutil.which(tool))
    words = ["sh", machine.script, machine.venv]
    said = subprocess.run(words, env=bare, capture_output=True, text=True, timeout=30, check=False)
    assert said.returncode == 1
    assert "there is no python3: on Debian, apt-get install python3 python3-venv" in said.stderr


@pytest.mark.parametrize("there", ["somebody's files", "a link", "nothing", "an environment"])
def test_nothing_but_an_environment_is_cleared(machine, tmp_path, there):
    machine.python(machine.on_path, "python3", OPTIMISED)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "pyvenv.cfg").touch()
    if there == "a link":
        machine.venv.symlink_to(elsewhere)
    else:
        machine.venv.mkdir()
    if there in ("somebody's files", "an environment"):
        (machine.venv / {"an environment": "pyvenv.cfg"}.get(there, "thesis.tex")).touch()
    # It fails in any case: a pretended Python writes a file, for which nothing may be there.
    said = machine.make(expected=1)
    refused = "is no virtual environment" in said
    assert refused == (there in ("somebody's files", "a link"))
    assert (elsewhere / "pyvenv.cfg").exists()
    assert (machine.venv / "thesis.tex").exists() == (there == "somebody's files")


class Checkout:
    """The Makefile, an environment that is complete, and a pip and compiler that only say what they do."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.python = folder, folder / ".venv" / "bin" / "python"
        shutil.copy(SCRIPT.parents[1] / "Makefile", folder)
        self.python.parent.mkdir(parents=True)
        (folder / "requirements").mkdir()
        for needed in ("requirements/run.lock", "requirements/dev.lock", "pyproject.toml"):
            (folder / needed).touch()
        for stamp in (".run-installed", ".dev-installed"):
            (folder / ".venv" / stamp).touch()
        self.python.symlink_to(sys.executable)

    def make(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "-C", self.folder, *words], capture_output=True, text=True, timeout=30, check=False
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("target", ["setup", "lint", "bench", "attacks"])
def test_an_environment_of_another_python_than_the_named_one_is_not_used_unsaid(checkout, target):
    other = checkout.folder / "python-other"
    other.write_text("#!/bin/sh\necho /opt/other 3.12.0\n")
    other.chmod(0o755)
    refused = checkout.make(target, f"PYTHON={other}")
    assert refused.returncode != 0
    assert f"of another Python than {other}: make clean first" in refused.stderr
    assert "/nope does not run" in checkout.make(target, "PYTHON=/nope").stderr


@pytest.mark.parametrize("word", [f"PYTHON={sys.executable}", "PYTHON="])
def test_the_python_that_it_is_of_and_none_are_no_other(checkout, word):
    assert checkout.make("setup", word).returncode == 0


def test_an_environment_whose_python_is_gone_is_filled_again(checkout):
    # The stamp is as new as ever, and make looks at it before the environment is made anew.
    script = checkout.folder / "requirements" / "make-venv.sh"
    script.write_text(
        """printf '#!/bin/sh\necho python "$@"\n' > "$1/bin/python"; chmod +x "$1/bin/python"\n"""
    )
    checkout.python.unlink()
    done = checkout.make("setup")
    assert done.returncode == 0, done.stderr
    assert "python -m pip --disable-pip-version-check install --quiet --require-hashes" in done.stdout
    assert "python -m compileall -q gateway" in done.stdout
