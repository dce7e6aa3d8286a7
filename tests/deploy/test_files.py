"""The files of a deployment: what they promise stands in them, and what they share agrees."""

from __future__ import annotations

import re
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


class Loader(yaml.SafeLoader):
    """Knows what Compose adds to YAML."""


Loader.add_constructor("!reset", lambda *_: None)


def compose(*names: str) -> dict:
    return {name: yaml.load((ROOT / name).read_text(), Loader) for name in names}


FILES = compose("compose.yaml", "compose.prod.yaml")
SERVICES = [
    pytest.param(file, name, id=f"{file}:{name}")
    for file, content in FILES.items()
    for name in content["services"]
]


def service(file: str, name: str) -> dict:
    """As Compose merges it, as far as is asked here."""
    base = FILES["compose.yaml"]["services"].get(name, {})
    return base if file == "compose.yaml" else base | FILES[file]["services"][name]


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_each_container_has_no_rights_and_an_end(file, name):
    one = service(file, name)
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in one
    assert one.get("cap_add", []) == (["CHOWN"] if name == "secrets" else [])
    assert one["restart"] == ("no" if name == "secrets" else "unless-stopped")
    assert one["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}
    if name != "secrets":
        assert one["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert one["stop_grace_period"]


def test_the_bus_is_reached_by_the_gateway_alone():
    for content in FILES.values():
        assert "ports" not in content["services"].get("bus", {})
    bus = FILES["compose.yaml"]["services"]["bus"]
    assert list(bus["networks"]) == ["bus"]
    assert FILES["compose.yaml"]["networks"]["bus"] == {"internal": True}
    members = {
        name
        for file in FILES
        for name in FILES[file]["services"]
        if "bus" in service(file, name).get("networks", {})
    }
    assert members <= {"bus", "gateway"}


def test_everybody_waits_for_whom_it_needs():
    services = FILES["compose.yaml"]["services"]
    assert services["gateway"]["depends_on"] == {"bus": {"condition": "service_healthy"}}
    assert services["bus"]["depends_on"] == {"secrets": {"condition": "service_completed_successfully"}}


def test_the_gateway_is_stopped_before_what_its_devices_come_through():
    """Compose stops what needs another before that one; a proxy that went first would cut off all devices."""
    production = FILES["compose.prod.yaml"]["services"]
    proxy, gateway = production["proxy"], production["gateway"]
    assert gateway["depends_on"] == {"proxy": {"condition": "service_started"}}
    assert "depends_on" not in proxy
    assert proxy["extra_hosts"] == [f"gateway:{gateway['networks']['front']['ipv4_address']}"]
    assert "proxy_pass gateway:8883;" in (ROOT / "deploy/nginx/nginx.conf").read_text()


def test_production_puts_the_proxy_in_front_and_believes_it_alone():
    production = FILES["compose.prod.yaml"]
    proxy, gateway = production["services"]["proxy"], production["services"]["gateway"]
    assert gateway["ports"] is None
    assert proxy["ports"] == ["8883:8883", "8443:8443"]
    assert gateway["environment"]["GATEWAY_PROXY_FROM"] == proxy["networks"]["front"]["ipv4_address"]
    own = [network["ipv4_address"] for network in gateway["networks"].values()]
    assert gateway["environment"]["GATEWAY_HEALTH_BIND"] == f"127.0.0.1:8000,{own[1]}:8000"
    assert all(one["logging"]["options"] for one in production["services"].values())
    assert {name for name, one in production["services"].items() if one.get("profiles") == ["watch"]} == {
        "prometheus",
        "grafana",
    }
    assert production["services"]["grafana"]["ports"] == ["127.0.0.1:3000:3000"]


def test_a_set_up_goes_over_to_production():
    """Compose gives no addresses to a network that is there already, so it has to be another."""
    front = FILES["compose.prod.yaml"]["networks"]["front"]
    assert front["name"] != "mqtt-gateway_front"
    assert front["ipam"]["config"]


def test_nobody_is_given_the_address_of_another():
    """Who has no address of its own there gets the first that is free: the gateway's, at a reboot."""
    production = FILES["compose.prod.yaml"]
    for name, network in production["networks"].items():
        for config in (network.get("ipam") or {}).get("config", []):
            services = production["services"].values()
            joined = [one["networks"][name] for one in services if name in one.get("networks", {})]
            addresses = [ip_address(one["ipv4_address"]) for one in joined]
            assert len(set(addresses)) == len(addresses) >= 2
            hosts = list(ip_network(config["subnet"]).hosts())
            assert set(addresses) <= set(hosts[1:]), "the first is the engine's"


@pytest.mark.parametrize(("file", "name"), SERVICES)
def test_no_image_changes_its_great_version_by_itself(file, name):
    image = service(file, name)["image"]
    assert not image.startswith("grafana/grafana-oss"), "not updated any more"
    if "build" in service(file, name):
        assert service(file, name)["pull_policy"] == "never"
    else:
        assert not image.endswith(":latest")
        assert image.count(":") == 1


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def test_what_stands_in_front_stops_after_what_stands_behind():
    production, base = FILES["compose.prod.yaml"]["services"], FILES["compose.yaml"]["services"]
    gateway = seconds(base["gateway"]["stop_grace_period"])
    assert gateway > 3 + 8_000 / 500
    proxy = seconds(production["proxy"]["stop_grace_period"])
    assert proxy > gateway
    nginx = (ROOT / "deploy/nginx/nginx.conf").read_text()
    ends = re.search(r"^worker_shutdown_timeout (\d+s);$", nginx, re.MULTILINE)
    assert ends is not None
    assert 3 + 8_000 / 500 < seconds(ends[1]) < proxy


def test_the_proxy_has_no_more_workers_than_its_bounds_are_for():
    nginx = (ROOT / "deploy/nginx/nginx.conf").read_text()
    assert re.search(r"^worker_processes [12];$", nginx, re.MULTILINE), "auto: one for each core"


def test_every_file_that_is_mounted_is_there():
    for file, content in FILES.items():
        for name, one in content["services"].items():
            for mounted in one.get("volumes", []):
                source = mounted.split(":")[0]
                if source.startswith("./"):
                    assert (ROOT / source).exists(), f"{file}: {name} mounts {source}"
                else:
                    known = FILES["compose.yaml"]["volumes"] | content["volumes"]
                    assert source in known, f"{file}: {name} mounts {source}"


def test_the_gateway_follows_a_monitoring_file_that_may_be_absent():
    """By its folder: Compose makes a folder of a file that is not there, and holds on to one that is."""
    gateway = FILES["compose.yaml"]["services"]["gateway"]
    path = Path(gateway["environment"]["MONITORING_PATH"])
    mounts = [one.split(":") for one in gateway["volumes"]]
    assert path.name == "monitoring.toml"
    assert ["./deploy/compose/monitoring", str(path.parent), "ro"] in mounts


SECRETISH = re.compile(r"(?i)(password|secret|token|_key)[a-z_]*[ ]*[:=][ ]*([^\s<].*)")


def test_no_secret_stands_in_any_of_them():
    paths = [ROOT / name for name in ("Dockerfile", *FILES)]
    paths += [
        path
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix not in {".py", ".json"}
    ]
    for path in paths:
        for _, value in SECRETISH.findall(path.read_text()):
            assert value.startswith(("/", "$", "{", '"$')) or "gateway.passwd" in value, f"{path}: {value}"


def settings_of(path: Path) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    return dict(line.split(" ", 1) for line in lines if line)


@pytest.mark.parametrize("name", ["compose/mosquitto.conf", "conf.d/gateway.conf"])
def test_every_bus_keeps_what_it_has_acknowledged(name):
    model, other = settings_of(ROOT / "deploy/mosquitto.conf"), settings_of(ROOT / "deploy" / name)
    apart = {"listener", "allow_anonymous", "persistence", "persistence_location"}
    for setting in model.keys() - apart:
        assert other[setting] == model[setting], setting
    assert other["allow_anonymous"] == "false"
    assert other["password_file"]


def test_the_service_is_exposed_no_more_than_promised():
    unit = ROOT / "deploy/systemd/mqtt-gateway.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout.strip().splitlines()[-1] + done.stderr
    assert done.returncode == 0, said
    found = re.search(r"level for mqtt-gateway\.service: ([0-9.]+)", said)
    assert found is not None
    assert float(found[1]) <= 2.0


def test_the_image_has_no_installer_and_no_root():
    text = (ROOT / "Dockerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert "pip install" not in last
    assert "HEALTHCHECK --interval=" in last
    assert 'CMD ["/opt/gateway/bin/python", "-I", "/opt/gateway/bin/healthcheck"]' in last
    assert 'ENTRYPOINT ["gateway"]' in last
    assert "chmod -R a+rX /etc/gateway" in last, "a clone may keep its files to itself"


@pytest.mark.parametrize(
    "name",
    ["deploy/deploy.sh", "deploy/install.sh", "deploy/systemd/gateway-admin", "requirements/make-venv.sh"],
)
def test_the_scripts_are_clean(name):
    done = subprocess.run(["shellcheck", ROOT / name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
