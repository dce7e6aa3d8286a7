#!/usr/bin/env python3
"""A `docker` as deploy.sh sees one: images, volumes and a container in a file, and each call written down.

`behaviour` in that file says what goes wrong. An engine can't be had where the tests run.
"""

import json
import os
import sys
from pathlib import Path

FILE = Path(os.environ["FAKE_DOCKER"])


def main(words):
    state = json.loads(FILE.read_text())
    state["calls"].append(" ".join(words))
    try:
        return answer(state, words)
    finally:
        FILE.write_text(json.dumps(state))


def answer(state, words):
    behaviour = state["behaviour"]
    if words[:1] == ["compose"]:
        state["files"] = os.environ.get("COMPOSE_FILE", "compose.yaml")
        state["profiles"] = os.environ.get("COMPOSE_PROFILES", "")
        return compose(state, words[1:], behaviour)
    match words:
        case ["info", "--format", _]:
            print("/")
        case ["info", *_]:
            return 1 if behaviour == "engine down" else 0
        case ["inspect", "--format", _, "gateway"]:
            container = state["container"]
            sick = container["image"] in state["sick"]
            print("stopped" if not container["running"] else "unhealthy" if sick else "healthy")
        case ["inspect", "--format", _, name]:
            print(state["others"][name])
        case ["image", "tag", source, target]:
            state["images"][target.split(":")[1]] = state["images"][source.split(":")[1]]
        case ["image", "inspect", name]:
            return 0 if name.split(":")[1] in state["images"] else 1
        case ["volume", "inspect", name]:
            return 0 if name in state["volumes"] else 1
        case [
            "run",
            "--rm",
            "--network",
            "none",
            "--user",
            "0:0",
            "--volume",
            source,
            "--volume",
            target,
            *_,
        ]:
            if behaviour == "disk full":
                return 1
            state["volumes"][target.split(":")[0]] = state["volumes"][source.split(":")[0]]
        case _:
            print(f"the fake knows no docker {words}", file=sys.stderr)
            return 64
    return 0


def compose(state, words, behaviour):
    match words:
        case ["version", "--short"]:
            if behaviour == "no compose":
                return 1
            print(state["compose"])
        case ["ps", "--all", "--quiet", "gateway"]:
            if state["container"]:
                print("gateway")
        case ["ps", "--all", "--quiet", name]:
            if state["others"][name] != "missing":
                print(name)
        case ["config", "--services"]:
            print("secrets", "gateway", *state["others"], sep="\n")
        case ["build", *_]:
            if behaviour == "build fails":
                return 1
            state["images"]["latest"] = state["sources"]
        case ["up", "--detach", "--remove-orphans"]:
            image = state["images"]["latest"]
            state["volumes"].setdefault("mqtt-gateway_gateway-data", f"of {image}")
            state["container"] = {"image": image, "running": True}
            # What it makes of the store can't be undone.
            state["volumes"]["mqtt-gateway_gateway-data"] += f", migrated by {image}"
        case ["stop", "gateway"]:
            state["container"]["running"] = False
        case ["start", "gateway"]:
            state["container"]["running"] = True
        case ["logs", *_]:
            print("the last lines of its log")
        case ["exec", "-T", "gateway", "/opt/gateway/bin/python", "-"]:
            assert "Whether a gateway that was just started" in sys.stdin.read()
            return 1 if behaviour == "check fails" else 0
        case _:
            print(f"the fake knows no docker compose {words}", file=sys.stderr)
            return 64
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
