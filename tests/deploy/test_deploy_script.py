"""deploy/deploy.sh, with a docker that only keeps books: what it does, in which order, and what it says."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHANGES = ("build", "pull", "run", "up", "stop", "start", "image tag", "exec")
DATA, BEFORE = "mqtt-gateway_gateway-data", "mqtt-gateway_gateway-data-before"


class Host:
    """A clone of the project, and a PATH whose docker is the fake."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "clone"
        self.clone.mkdir()
        shutil.copytree(ROOT / "deploy", self.clone / "deploy")
        shutil.copytree(ROOT / "acl", self.clone / "acl")
        for name in ("Dockerfile", "compose.yaml", "compose.prod.yaml"):
            shutil.copy(ROOT / name, self.clone / name)
        subprocess.run(["chmod", "-R", "o+rX", self.clone], check=True)
        self.programs = folder / "programs"
        self.programs.mkdir()
        self.file = folder / "state.json"
        self.state = {
            "calls": [],
            "behaviour": "",
            "kill at": "",
            "compose": "2.39.1",
            "images": {},
            "sources": "v1",
            "sick": [],
            "volumes": {},
            "container": None,
            "others": {"bus": "healthy"},
        }
        self.program("docker", f'exec {sys.executable} -S -E {ROOT}/tests/deploy/fake_docker.py "$@"')
        self.program("ss", "")
        self.program("hostname", "echo gateway.example.org")
        self.program("timedatectl", "echo yes")

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def deploy(self, *words: str, expected: int = 0, path: str = os.defpath) -> str:
        self.state["calls"] = []
        self.file.write_text(json.dumps(self.state))
        done = subprocess.run(
            [self.clone / "deploy" / "deploy.sh", *words],
            env={
                "PATH": f"{self.programs}:{path}",
                "FAKE_DOCKER": str(self.file),
                "DEPLOY_PATIENCE": "2",
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.state = json.loads(self.file.read_text())
        assert done.returncode == expected, done.stdout + done.stderr
        return done.stdout + done.stderr

    def changes(self) -> list[str]:
        """What was done to the engine, one or two words each."""
        found = []
        for call in self.state["calls"]:
            words = [word for word in call.split() if not word.startswith("-")]
            words = words[1:] if words[0] == "compose" else words
            name = " ".join(words[:2]) if words[0] == "image" else words[0]
            if name in CHANGES:
                found.append(name)
        return found


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_it_sets_up_and_run_again_changes_nothing(host):
    said = host.deploy("--host", "mqtt.example.org")
    assert host.changes() == ["build", "up", "exec"]
    assert (host.clone / ".env").read_text() == "PUBLIC_HOST=mqtt.example.org\n"
    assert "gateway-admin device add lamp-1 --role sensor" in said
    files = {path: path.stat().st_mtime_ns for path in host.clone.rglob("*")}
    said = host.deploy()
    assert "nothing was changed" in said
    assert host.changes() == []
    assert files == {path: path.stat().st_mtime_ns for path in host.clone.rglob("*")}


def test_what_stands_in_env_stays_and_the_name_is_remembered(host):
    (host.clone / ".env").write_text("MQTT_BROKER=localhost\nPUBLIC_HOST=old.example.org")
    host.deploy()
    assert (host.clone / ".env").read_text() == "MQTT_BROKER=localhost\nPUBLIC_HOST=old.example.org"
    (host.clone / ".env").chmod(0o600)
    host.deploy("--prod")
    assert (host.clone / ".env").read_text().splitlines() == [
        "MQTT_BROKER=localhost",
        "PUBLIC_HOST=old.example.org",
        "COMPOSE_FILE=compose.yaml:compose.prod.yaml",
    ]
    assert (host.clone / ".env").stat().st_mode & 0o777 == 0o600


PRODUCTION = ("compose.yaml:compose.prod.yaml", "watch")


def test_production_has_its_files_and_the_profile_from_then_on(host):
    said = host.deploy("--prod", "--watch")
    assert (host.state["files"], host.state["profiles"]) == PRODUCTION
    assert "Grafana" in said
    assert "nothing was changed" in host.deploy("--watch")
    host.deploy("--upgrade")
    assert (host.state["files"], host.state["profiles"]) == PRODUCTION


def test_what_is_said_later_is_done_then(host):
    host.deploy()
    assert host.state["files"] == "compose.yaml"
    host.deploy("--prod")
    assert host.changes() == ["build", "run", "up", "exec"]
    assert (host.state["files"], host.state["profiles"]) == (PRODUCTION[0], "")
    said = host.deploy("--host", "other.example.org")
    assert "the certificate keeps that name" in said
    assert host.changes() == ["build", "run", "up", "exec"]


def test_files_and_profiles_of_the_administrator_stay(host):
    (host.clone / ".env").write_text("COMPOSE_FILE=compose.yaml:mine.yaml\nCOMPOSE_PROFILES=mine\n")
    host.deploy("--prod", "--watch")
    assert (host.state["files"], host.state["profiles"]) == (
        "compose.yaml:mine.yaml:compose.prod.yaml",
        "mine,watch",
    )


@pytest.mark.parametrize("state", ["unhealthy", "stopped", "missing"])
def test_a_container_beside_the_gateway_counts(host, state):
    host.deploy()
    host.state["others"]["bus"] = state
    assert "not healthy" in host.deploy(expected=1)
    assert host.changes() == ["build", "run", "up"]
    host.state["others"]["bus"] = "healthy"
    assert "nothing was changed" in host.deploy()


def test_files_that_the_containers_can_not_read(host):
    hidden = host.clone / "acl/roles/sensor.toml"
    hidden.chmod(0o600)
    said = host.deploy(expected=1)
    assert "can't read acl/roles/sensor.toml" in said
    assert "chmod -R o+rX acl deploy" in said
    assert host.changes() == []
    hidden.chmod(0o644)
    (host.clone / "deploy/compose/monitoring/hook").write_text("whsec_")
    (host.clone / "deploy/compose/monitoring/hook").chmod(0o400)
    host.deploy()


def test_an_upgrade_keeps_the_data_and_can_go_back(host):
    host.deploy()
    host.state["sources"] = "v2"
    host.deploy("--upgrade")
    assert host.changes() == ["run", "pull", "build", "stop", "run", "image tag", "run", "up", "exec"]
    assert host.state["container"] == {"image": "v2", "running": True}
    assert host.state["volumes"][DATA] == "of v1, migrated by v1, migrated by v2"
    host.deploy("--rollback")
    assert host.state["container"] == {"image": "v1", "running": True}
    assert "migrated by v2" not in host.state["volumes"][DATA]


@pytest.mark.parametrize("fault", ["sick", "up waits for health", "check fails"])
def test_an_upgrade_that_does_not_work_goes_back_by_itself(host, fault):
    host.deploy()
    host.state["sources"] = "v2"
    host.state["behaviour"] = fault
    if fault != "check fails":
        host.state["sick"] = ["v2"]
    said = host.deploy("--upgrade", expected=1)
    assert "the one before runs again" in said
    assert host.state["container"] == {"image": "v1", "running": True}
    assert "migrated by v2" not in host.state["volumes"][DATA]


def test_where_no_version_starts_the_last_lines_say_what_to_do(host):
    host.state |= {"sick": ["v1"], "behaviour": "up waits for health"}
    assert "Nothing is lost by running this again" in host.deploy(expected=1)


def test_an_upgrade_without_a_copy_of_the_data_is_none(host):
    host.deploy()
    host.state |= {"sources": "v2", "behaviour": "disk full"}
    said = host.deploy("--upgrade", expected=1)
    assert "nothing was changed" in said
    assert host.state["container"] == {"image": "v1", "running": True}
    assert host.state["images"]["latest"] == "v1"
    assert "the disk may be full" in said
    assert BEFORE not in host.state["volumes"], "half a copy keeps the disk full"


def upgraded(host: Host) -> None:
    """To v2, and in use for months since."""
    host.deploy()
    host.state["sources"] = "v2"
    host.deploy("--upgrade")
    host.state["volumes"][DATA] += ", months of v2"
    host.state["sources"] = "v3"


@pytest.mark.parametrize("fault", ["build fails", "pull fails"])
def test_an_upgrade_that_can_not_be_built_leaves_the_way_back_as_it_was(host, fault):
    upgraded(host)
    host.state["behaviour"] = fault
    host.deploy("--upgrade", expected=1)
    assert host.state["images"] == {"latest": "v2", "before": "v1"}
    assert host.state["container"] == {"image": "v2", "running": True}
    assert host.state["volumes"][BEFORE] == "of v1, migrated by v1"


AT = ["pull --quiet", "build --quiet", "stop gateway", "--entrypoint sh", "image tag", "--entrypoint rm"]


@pytest.mark.parametrize("at", AT)
def test_an_upgrade_that_was_killed_is_done_once_more_and_loses_nothing(host, at):
    upgraded(host)
    host.state["kill at"] = at
    host.deploy("--upgrade", expected=-signal.SIGKILL)
    host.state |= {"kill at": "", "behaviour": ""}
    host.deploy("--upgrade")
    assert host.state["container"] == {"image": "v3", "running": True}
    assert host.state["volumes"][DATA].endswith(", months of v2, migrated by v3")
    host.deploy("--rollback")
    assert host.state["container"] == {"image": "v2", "running": True}
    assert ", months of v2" in host.state["volumes"][DATA]
    assert "migrated by v3" not in host.state["volumes"][DATA]


def test_an_upgrade_that_was_killed_before_its_check_goes_back_to_the_version_before_it(host):
    """Kind: what is tried is taken for what was there before."""
    upgraded(host)
    host.state |= {"kill at": "up --detach", "sick": ["v3"]}
    host.deploy("--upgrade", expected=-signal.SIGKILL)
    host.state |= {"kill at": "", "behaviour": ""}
    assert "the one before runs again" in host.deploy("--upgrade", expected=1)
    assert host.state["container"] == {"image": "v2", "running": True}
    assert ", months of v2" in host.state["volumes"][DATA]
    assert "migrated by v3" not in host.state["volumes"][DATA]
    # And the next one keeps a copy again.
    host.state["sick"] = []
    host.state["volumes"][DATA] += ", more of v2"
    host.deploy("--upgrade")
    assert ", more of v2" in host.state["volumes"][BEFORE]


def test_after_an_upgrade_that_was_killed_and_is_well_the_next_one_keeps_a_copy_of_it(host):
    upgraded(host)
    host.state["kill at"] = "up --detach"
    host.deploy("--upgrade", expected=-signal.SIGKILL)
    host.state |= {"kill at": "", "behaviour": "", "sources": "v4"}
    host.state["volumes"][DATA] += ", months of v3"
    host.deploy("--upgrade")
    host.deploy("--rollback")
    assert host.state["container"] == {"image": "v3", "running": True}
    assert ", months of v3" in host.state["volumes"][DATA]


def test_of_two_upgrades_that_were_killed_the_second_has_its_own_copy(host):
    """Kind: a mark of an attempt outlives what it speaks of."""
    upgraded(host)
    host.state["kill at"] = "up --detach"
    host.deploy("--upgrade", expected=-signal.SIGKILL)
    host.state |= {"kill at": "--entrypoint sh", "behaviour": "", "sources": "v4", "sick": ["v4"]}
    host.deploy("--upgrade", expected=-signal.SIGKILL)
    host.state |= {"kill at": "", "behaviour": ""}
    assert "the one before runs again" in host.deploy("--upgrade", expected=1)
    assert host.state["container"] == {"image": "v3", "running": True}


@pytest.mark.parametrize("words", [[], ["--check"], ["--upgrade"]])
def test_a_gateway_that_turned_out_well_is_what_the_next_upgrade_goes_back_to(host, words):
    upgraded(host)
    host.state["kill at"] = "up --detach"
    host.deploy("--upgrade", expected=-signal.SIGKILL)
    host.state |= {"kill at": "", "behaviour": ""}
    if words != ["--upgrade"]:
        host.deploy(*words)
    host.state["volumes"][DATA] += ", months of v3"
    host.state["container"]["running"] = False  # as after a reboot
    host.state |= {"sources": "v4", "sick": ["v4"]}
    assert "the one before runs again" in host.deploy("--upgrade", expected=1)
    assert host.state["container"] == {"image": "v3", "running": True}
    assert ", months of v3" in host.state["volumes"][DATA]


@pytest.mark.parametrize("at", ["--entrypoint sh", "image tag"])
def test_from_an_upgrade_that_was_killed_nobody_goes_back_to_data_of_another_version(host, at):
    upgraded(host)
    host.state["kill at"] = at
    host.deploy("--upgrade", expected=-signal.SIGKILL)
    host.state |= {"kill at": "", "behaviour": ""}
    host.deploy("--rollback", expected=1)
    assert ", months of v2" in host.state["volumes"][DATA]


def test_a_way_back_that_was_killed_starts_nothing_on_half_of_the_data(host):
    upgraded(host)
    host.state["kill at"] = "--entrypoint sh"
    host.deploy("--rollback", expected=-signal.SIGKILL)
    host.state |= {"kill at": "", "behaviour": ""}
    for words in ([], ["--upgrade"]):
        assert "Once more: deploy/deploy.sh --rollback" in host.deploy(*words, expected=1)
        assert "up" not in host.changes()
    stopped, host.state["container"] = host.state["container"], None  # as after `docker compose down`
    assert "Once more: deploy/deploy.sh --rollback" in host.deploy(expected=1)
    assert "up" not in host.changes()
    host.state["container"] = stopped
    host.deploy("--rollback")
    assert host.state["container"] == {"image": "v1", "running": True}
    assert host.state["volumes"][DATA] == "of v1, migrated by v1, migrated by v1"


def test_where_nobody_can_look_at_the_data_no_way_back_is_advised(host):
    """It would take away what came since the upgrade, of data that is whole."""
    upgraded(host)
    host.state["behaviour"] = "run fails"
    said = host.deploy("--upgrade", expected=1)
    assert "nobody could look at the data" in said
    assert "--rollback" not in said


def test_going_back_twice_would_take_away_what_came_since(host):
    upgraded(host)
    host.deploy("--rollback")
    host.state["volumes"][DATA] += ", months of v1"
    assert "the one that is here" in host.deploy("--rollback", expected=1)
    assert host.state["volumes"][DATA].endswith(", months of v1")


def git(host: Host, *words: str) -> str:
    names = [f"{word}={value}" for word, value in (("user.name", "x"), ("user.email", "x@example.org"))]
    options = [option for name in names for option in ("-c", name)]
    done = subprocess.run(
        ["git", *options, *words], cwd=host.clone, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_going_back_names_the_commit_whose_policy_the_version_before_knows(host):
    git(host, "init", "--quiet")
    commits = []
    for version in ("v1", "v2"):
        (host.clone / "acl/limits.toml").write_text(f"# of {version}\n")
        git(host, "add", "acl")
        git(host, "commit", "--quiet", "--message", version)
        commits.append(git(host, "rev-parse", "HEAD"))
        host.state["sources"] = version
        host.deploy(*(["--upgrade"] if version == "v2" else []))
    host.state["sick"] = ["v1"]
    said = host.deploy("--rollback", expected=1)
    assert f"first git checkout {commits[0]}, then deploy/deploy.sh" in said
    git(host, "checkout", "--quiet", commits[0])
    host.state |= {"sick": [], "sources": "v1"}
    host.deploy()
    assert f"DEPLOYED={commits[0]}\n" in (host.clone / ".env").read_text()


def test_what_does_not_become_healthy_is_told_with_its_log(host):
    host.state["sick"] = ["v1"]
    said = host.deploy(expected=1)
    assert "the last lines of its log" in said
    # What hangs says nothing.
    assert "deploy: gateway is unhealthy: no answer" in said
    assert "not healthy" in said
    assert "LimitNOFILE" not in said


def test_what_the_engine_could_not_start_is_told_with_its_reason_and_a_remedy(host):
    # It never ran, so it has no log.
    host.state["behaviour"] = "may not raise limits"
    said = host.deploy(expected=1).splitlines()
    reason = said.index(
        "deploy: gateway could not be started: error setting rlimit type 7: operation not permitted"
    )
    assert "LimitNOFILE" in said[reason + 1]
    assert "" not in said[reason:]


@pytest.mark.parametrize(
    ("behaviour", "remedy"),
    [
        ("engine down", "systemctl start docker"),
        ("no compose", "docker-compose-plugin"),
        ("build fails", "could not be built"),
        ("check fails", "not as it has to"),
    ],
)
def test_each_failure_says_what_to_do(host, behaviour, remedy):
    host.state["behaviour"] = behaviour
    assert remedy in host.deploy(expected=1)


def test_compose_must_not_be_old(host):
    host.state["compose"] = "v2.23.3"
    assert "2.24 is needed" in host.deploy(expected=1)


@pytest.mark.parametrize(
    ("program", "script", "said"),
    [
        ("ss", 'case "$*" in *8443*) echo LISTEN ;; esac', "port 8443 is taken"),
        ("df", "printf 'h\\n/dev/x 9 9 1500 9 /\\n'", "1500 MiB are free"),
        (
            "date",
            'case "$*" in +%s) echo 1000000000 ;; *) echo 2001-09-09 ;; esac',
            "timedatectl set-ntp true",
        ),
    ],
)
def test_what_is_needed_is_looked_at_before_anything_is_done(host, program, script, said):
    host.program(program, script)
    assert said in host.deploy(expected=1)
    assert host.changes() == []


def test_without_docker_it_says_where_to_get_it(host):
    (host.programs / "docker").unlink()
    for name in ("bash", "dirname", "env"):
        host.programs.joinpath(name).symlink_to(shutil.which(name) or "")
    assert "Install Docker Engine" in host.deploy(expected=1, path=str(host.programs))


@pytest.mark.parametrize("words", [["--watch"], ["--host"], ["--up"], ["now"]])
def test_wrong_usage(host, words):
    host.deploy(*words, expected=2)


def test_a_name_that_is_none(host):
    assert "is no host name" in host.deploy("--host", "a;b", expected=1)


def test_nothing_to_upgrade_and_nothing_to_go_back_to(host):
    assert "Set it up first" in host.deploy("--upgrade", expected=1)
    host.deploy()
    assert "Only --upgrade keeps one" in host.deploy("--rollback", expected=1)
