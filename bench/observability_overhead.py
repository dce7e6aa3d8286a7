"""The gateway with all that watches it on, and with all of that off: their ratio is what watching costs.

They run by their names alone.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import secrets
import threading
import urllib.request

from bench import accounts
from bench.peers import Gateway
from gateway.alerts.shipped_rules import SHIPPED

SCRAPE_SECONDS = 10.0  # more often than is usual: about once while an idle process is watched
_WATCHED = accounts.FLEET[:50]  # as many as may be named
_HOUR = 3_600


class Observed(Gateway):
    name = "gateway-observed"
    about = (
        "the same with every rule of alerts, checks, a channel, metrics of devices, LOG_LEVEL=info, scraped"
    )
    by_name = True

    def start(self) -> None:
        self._sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
        threading.Thread(target=self._sink.serve_forever, daemon=True).start()
        super().start()
        self._over = threading.Event()
        threading.Thread(target=self._scrape, daemon=True).start()

    def stop(self) -> None:
        if hasattr(self, "_over"):
            self._over.set()
            self._sink.shutdown()
            self._sink.server_close()
        super().stop()

    def settings(self) -> dict[str, str]:
        return {"LOG_LEVEL": "info", "MONITORING_PATH": str(self.write("monitoring.toml", self.monitoring()))}

    def monitoring(self) -> str:
        """All rules, those of single devices among them, and one of each kind of check."""
        secret = self.write("hook", f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}")
        secret.chmod(0o600)
        page = f"127.0.0.1:{self._sink.server_port}"
        device, topic = _WATCHED[0], accounts.telemetry(_WATCHED[0])
        checks = (
            f'name = "page"\nkind = "http"\ntarget = "http://{page}/"\n',
            f'name = "port"\nkind = "tcp"\ntarget = "{page}"\n',
            f'name = "device"\nkind = "device"\ntarget = "{device}"\ntopic = "{topic}"\nwithin = "10m"\n',
        )
        return (
            "allow_private_addresses = true\n"
            f"metrics_of_devices = {json.dumps(_WATCHED)}\n"
            + "".join(f'[[check]]\n{check}interval = "10s"\n' for check in checks)
            + "".join(f'[[alert]]\nname = "{rule.name}"\nenabled = true\n' for rule in SHIPPED)
            + f'[[channel]]\nname = "sink"\nkind = "webhook"\nurl = "http://{page}/"\nsecret_file = "hook"\n'
        )

    def _scrape(self) -> None:
        while not self._over.wait(SCRAPE_SECONDS):
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"http://{self.health}/metrics") as page,
            ):
                page.read()


class Unobserved(Gateway):
    name = "gateway-unobserved"
    about = "the same with no rule of alerts, no metrics, and a check of health each hour"
    by_name = True

    def settings(self) -> dict[str, str]:
        return {
            "LOG_LEVEL": "error",
            "METRICS_ENABLED": "false",
            "HEALTH_CHECK_INTERVAL": str(_HOUR),
            "MONITORING_PATH": str(self.write("monitoring.toml", self.monitoring())),
        }

    def monitoring(self) -> str:
        """No rule."""
        return "".join(f'[[alert]]\nname = "{rule.name}"\nenabled = false\n' for rule in SHIPPED)


class _Sink(http.server.BaseHTTPRequestHandler):
    """Takes whatever it is told."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass
