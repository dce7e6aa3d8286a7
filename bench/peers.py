"""The servers: how each is configured, started on loopback, found ready, and stopped.

All show the same kind of certificate (EC P-256, TLS 1.3), know the same accounts and, where they
can, check passwords and topics. A server that cannot be had is Unavailable, with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import trustme

from bench import accounts, resource_usage
from bench.checkout import ROOT, Tree, this_checkout
from bench.load import Target
from bench.ports import free_port
from bench.process import Process, Unavailable, listening, program, version

# So that the bus is never the limit: its answers leave at once, and it keeps and refuses nothing.
MOSQUITTO = """
per_listener_settings false
persistence false
log_dest none
sys_interval 0
set_tcp_nodelay true
max_inflight_messages 1000
max_queued_messages 0
"""


class Certificate:
    """A CA and a server certificate of it in a folder, for all servers but the gateway (it has its own)."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        server = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
        self.ca, self.crt, self.key = folder / "ca.crt", folder / "server.crt", folder / "server.key"
        self.both = folder / "server.pem"  # HAProxy wants one file
        authority.cert_pem.write_to_path(str(self.ca))
        server.cert_chain_pems[0].write_to_path(str(self.crt))
        server.private_key_pem.write_to_path(str(self.key))
        server.private_key_and_cert_chain_pem.write_to_path(str(self.both))


class Peer:
    """One server under test. `bus` is the Mosquitto behind it, for those that need one."""

    name = ""
    about = ""
    by_name = False  # whether it runs only when it is asked for
    looks_at_nothing = False  # it ends TLS, and takes any bytes for a password

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        folder.mkdir()
        self.folder, self.certificate = folder, certificate
        self.port = free_port()
        self.server: Process | None = None
        self.bus: Bus | None = None
        self.plain_port = free_port()  # of a broker alone
        self.ca = certificate.ca
        self.version = ""

    def start(self) -> None:
        """After a stop too: in the same folder, as after a restart of the machine."""
        raise NotImplementedError

    def stop(self) -> None:
        for process in (self.server, self.bus):
            if process is not None:
                process.stop()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *command: str, environment: dict[str, str] | None = None) -> None:
        """Start the server and wait until it listens."""
        self.server = Process(list(command), self.folder / "server.log", environment)
        self.server.wait_for(lambda: listening(self.port))

    @property
    def target(self) -> Target:
        return Target(self.port, str(self.ca))

    @property
    def plain(self) -> Target:
        """Where the listener hears what reached the bus: no TLS, no proxy."""
        return Target(self.bus.port if self.bus else self.plain_port, None)

    def pids(self) -> list[int]:
        """The server's processes, without the bus."""
        return resource_usage.family(self.server.pid) if self.server else []


class Bus:
    """A plain Mosquitto that trusts everybody, behind a proxy."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        config = folder / "bus.conf"
        config.write_text(f"{MOSQUITTO}{_as_root()}listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self._process = Process([program("mosquitto"), "-c", str(config)], folder / "bus.log")
        self.pid = self._process.pid
        self._process.wait_for(lambda: listening(self.port))

    def stop(self) -> None:
        self._process.stop()


def _as_root() -> str:
    return "user root\n" if os.geteuid() == 0 else ""


class Mosquitto(Peer):
    name = "Mosquitto"
    about = "the broker alone: TLS, password_file, acl_file"

    def start(self) -> None:
        broker = program("mosquitto")
        self.version = version([broker, "-h"])
        passwords = self.write("passwords", "".join(f"{name}:{accounts.SECRET}\n" for name in accounts.ALL))
        passwords.chmod(0o600)
        subprocess.run(
            [program("mosquitto_passwd"), "-U", str(passwords)], check=True, capture_output=True, timeout=60
        )
        rules = self.write(
            "acl",
            "pattern readwrite devices/%u/#\npattern readwrite bench/#\n"
            f"user {accounts.LISTENER}\ntopic read {accounts.ALL_TELEMETRY}\n",
        )
        rules.chmod(0o600)
        config = self.write(
            "mosquitto.conf",
            f"{MOSQUITTO}{_as_root()}listener {self.port} 127.0.0.1\nallow_anonymous false\n"
            f"certfile {self.certificate.crt}\nkeyfile {self.certificate.key}\ntls_version tlsv1.3\n"
            f"listener {self.plain_port} 127.0.0.1\npassword_file {passwords}\nacl_file {rules}\n",
        )
        self.run(broker, "-c", str(config))


class HAProxy(Peer):
    name = "HAProxy"
    about = "TLS termination only, it looks at nothing; a plain Mosquitto behind"
    looks_at_nothing = True

    def start(self) -> None:
        proxy = program("haproxy")
        self.version = version([proxy, "-v"])
        self.bus = Bus(self.folder)
        config = self.write(
            "haproxy.cfg",
            "global\n  nbthread 1\n  maxconn 4096\n  ssl-default-bind-options ssl-min-ver TLSv1.3\n"
            "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n"
            f"frontend devices\n  bind 127.0.0.1:{self.port} ssl crt {self.certificate.both}\n"
            f"  default_backend bus\nbackend bus\n  server mosquitto 127.0.0.1:{self.bus.port}\n",
        )
        self.run(proxy, "-db", "-f", str(config))


class Nginx(Peer):
    name = "nginx"
    about = "TLS termination only, it looks at nothing (stream module, one worker); a plain Mosquitto behind"
    looks_at_nothing = True

    def start(self) -> None:
        proxy, errors = program("nginx"), self.folder / "errors.log"
        self.version = version([proxy, "-v"])
        self.bus = Bus(self.folder)
        module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")  # Debian's; elsewhere it is built in
        config = self.write(
            "nginx.conf",
            f"{f'load_module {module};' if module.exists() else ''}\n"
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            f"daemon off;\npid {self.folder}/nginx.pid;\nerror_log {errors};\n"
            "worker_processes 1;\nevents {\n  worker_connections 8192;\n}\n"
            "stream {\n  proxy_connect_timeout 10s;\n  proxy_timeout 1h;\n  ssl_protocols TLSv1.3;\n"
            f"  ssl_certificate {self.certificate.crt};\n  ssl_certificate_key {self.certificate.key};\n"
            f"  server {{\n    listen 127.0.0.1:{self.port} ssl;\n"
            f"    proxy_pass 127.0.0.1:{self.bus.port};\n  }}\n}}\n",
        )
        self.run(proxy, "-e", str(errors), "-c", str(config))


class Relay(Peer):
    name = "relay"
    about = "bench/relay.py: TLS termination only, in Python on uvloop; a plain Mosquitto behind"
    by_name = True
    looks_at_nothing = True

    def start(self) -> None:
        self.version = version([sys.executable, "--version"])
        self.bus = Bus(self.folder)
        ports = [str(self.port), str(self.bus.port)]
        files = [str(self.certificate.crt), str(self.certificate.key)]
        self.run(sys.executable, "-m", "bench.relay", *ports, *files, environment={"PYTHONPATH": str(ROOT)})


class Aedes(Peer):
    name = "aedes"
    about = "Node.js broker with its TLS, passwords and topics checked"

    def start(self) -> None:
        node, npm = program("node"), program("npm")
        here = ROOT / "bench"
        if not (here / "node_modules" / "aedes").is_dir():
            done = subprocess.run(
                [npm, "ci"], cwd=here, capture_output=True, text=True, timeout=180, check=False
            )
            if done.returncode:
                raise Unavailable(f"npm ci failed: {done.stderr.strip().splitlines()[-1:]}")
        package = json.loads((here / "node_modules" / "aedes" / "package.json").read_text())
        self.version = f"aedes {package['version']} on Node.js {version([node, '--version'])}"
        names = self.write("accounts", "\n".join(accounts.ALL))
        secret = self.write("secret", accounts.SECRET)
        self.run(
            node,
            str(here / "aedes.mjs"),
            *map(
                str, (self.port, self.plain_port, self.certificate.crt, self.certificate.key, names, secret)
            ),
        )


class Amqtt(Peer):
    name = "amqtt"
    about = "Python broker as its own command runs it: password file, topic lists"

    def start(self) -> None:
        command = Path(sys.executable).with_name("amqtt")
        if not command.exists():
            raise Unavailable("amqtt is not installed in this environment")
        from argon2 import PasswordHasher

        self.version = f"amqtt {version([str(command), '--version'])}"
        # Only the accounts whose connect is measured get the hash that amqtt itself would make (a
        # seventh of a second each); the others a cheap one, for a thousand have to come in.
        usual = PasswordHasher().hash(accounts.SECRET)
        cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(accounts.SECRET)
        counted = {*accounts.FIRST, *accounts.AGAIN}
        passwords = self.write(
            "passwords",
            "".join(f"{name}:{usual if name in counted else cheap}\n" for name in accounts.ALL),
        )
        rules = {name: [f"devices/{name}/#", "bench/#"] for name in accounts.ALL}
        rules[accounts.LISTENER] = [accounts.ALL_TELEMETRY]
        config = self.write(
            "amqtt.json",
            json.dumps(
                {
                    # A listener takes over from "default" what it does not say, so that one is the plain one.
                    "listeners": {
                        "default": {"type": "tcp", "bind": f"127.0.0.1:{self.plain_port}"},
                        "tls": {
                            "type": "tcp",
                            "bind": f"127.0.0.1:{self.port}",
                            "ssl": True,
                            "certfile": str(self.certificate.crt),
                            "keyfile": str(self.certificate.key),
                        },
                    },
                    "plugins": {
                        "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(passwords)},
                        "amqtt.plugins.topic_checking.TopicAccessControlListPlugin": {
                            "publish_acl": rules,
                            "acl": rules,
                        },
                    },
                }
            ),
        )
        self.run(str(command), "-c", str(config))


# Bounds that are not what is measured.
LIMITS = {
    "messages_per_second": 100_000_000,
    "bytes_per_second": 100_000_000_000,
    "in_flight": 10_000,
    "connections": 20_000,
    "connections_per_device": 5_000,
    "connects_per_minute": 1_000_000,
    "service_requests_per_second": 100_000_000,
    "tokens_per_minute": 100_000_000,
}


class Gateway(Peer):
    name = "gateway"
    about = "this gateway, one process; a plain Mosquitto behind"

    def __init__(self, folder: Path, certificate: Certificate, tree: Tree | None = None) -> None:
        super().__init__(folder, certificate)
        self.tree = tree or this_checkout()
        self.version = self.tree.version

    def start(self) -> None:
        self.bus = Bus(self.folder)
        self.ca = self.folder / "certs" / "ca.crt"
        enrolled = (self.folder / "acl").exists()
        self.health = f"127.0.0.1:{free_port()}"
        environment = {
            "MQTT_BROKER": "127.0.0.1",
            "MQTT_PORT": str(self.bus.port),
            "GATEWAY_DATA_DIR": str(self.folder / "data"),
            "TLS_CERT_PATH": str(self.folder / "certs" / "server.crt"),
            "TLS_KEY_PATH": str(self.folder / "certs" / "server.key"),
            "ACL_PATH": str(self.folder / "acl"),
            "GATEWAY_MQTT_BIND": f"127.0.0.1:{self.port}",
            "GATEWAY_HTTP_BIND": "127.0.0.1:0",
            "GATEWAY_HEALTH_BIND": self.health,
            "GATEWAY_BUS_SERVICES": "true",
            "LOG_LEVEL": "warning",
            **self.settings(),
            **self.tree.environment,
        }
        if not enrolled:
            self._write_policy(self.folder / "acl")
            self._enrol(environment)
        self.server = Process(self.tree.command("gateway", "run"), self.folder / "server.log", environment)
        self.server.wait_for(lambda: _answers(f"http://{self.health}/ready"))

    def settings(self) -> dict[str, str]:
        """What is set otherwise, or more, than here."""
        return {}

    def _write_policy(self, policy: Path) -> None:
        """What this gateway ships with, a role for the load, and limits out of the way."""
        shutil.copytree(self.tree.path / "acl", policy)
        (policy / "cases.toml").unlink(missing_ok=True)
        (policy / "roles" / "bench.toml").write_text(
            'description = "What the load generator may do."\n\n'
            '[[allow]]\nactions = ["publish", "subscribe", "encrypt", "decrypt"]\n'
            'topics = ["bench/#", "devices/{device}/telemetry/#", "devices/{device}/private/#"]\n'
        )
        (policy / "limits.toml").write_text(self.tree.limits(LIMITS.items()))

    def _enrol(self, environment: dict[str, str]) -> None:
        """All accounts, straight into the store: a command for each would take half an hour."""
        devices = json.dumps({"secret": accounts.SECRET, "devices": accounts.ALL})
        for what, command, given in (
            ("init", self.tree.command("gateway-admin", "init"), ""),
            ("enrolment", self.tree.module("bench.enrol"), devices),
        ):
            done = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, **environment},
                input=given,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            if done.returncode:
                raise Unavailable(f"{what} failed: {' | '.join(done.stderr.strip().splitlines()[-3:])}")


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=1) as page:
        return bool(page.status == 200)
    return False
