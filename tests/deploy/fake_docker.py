#!/usr/bin/env python3
"""A `docker` as deploy.sh sees one: images, volumes and a container in a file, and each call written down.

`behaviour` in that file says what goes wrong, and `kill at` is the call at which deploy.sh is killed, once it
is half done. An engine can't be had where the tests run.
"""

import json
import os
import signal
import sys
from itertools import pairwise
from pathlib import Path

FILE = Path(os.environ["FAKE_DOCKER"])


def main(words):
    state = json.loads(FILE.read_text())
    call = " ".join(words)
    state["calls"].append(call)
    killed = state["kill at"] and state["kill at"] in call
    if killed:
        state["behaviour"] = "killed"
    try:
        return answer(state, words)
    finally:
        FILE.write_text(json.dumps(state))
        if killed:
            os.kill(os.getppid(), signal.SIGKILL)


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
        case ["inspect", "--format", "{{.Image}}", name]:
            if name != "gateway":
                return 1
            print(state["container"]["image"])
        case ["inspect", "--format", shown, "gateway", *others] if ".State.Error" in shown:
            if behaviour == "may not raise limits":
                print("/gateway could not be started: error setting rlimit type 7: operation not permitted")
            elif state["container"]["image"] in state["sick"]:
                print("/gateway is unhealthy: no answer ")
            print(*("" for _ in others), sep="\n")
        case ["inspect", "--format", _, "gateway"]:
            container = state["container"]
            sick = container["image"] in state["sick"]
            print("stopped" if not container["running"] else "unhealthy" if sick else "healthy")
        case ["inspect", "--format", _, name]:
            print(state["others"][name])
        case ["image", "tag", source, target]:
            # An image goes by its name or by what it is.
            name = source.partition(":")[2]
            state["images"][target.split(":")[1]] = state["images"][name] if name else source
        case ["image", "inspect", *_, name]:
            image = state["images"].get(name.split(":")[1])
            if image is None:
                return 1
            print(image)
        case ["volume", "inspect", name]:
            return 0 if name in state["volumes"] else 1
        case ["volume", "rm", name]:
            del state["volumes"][name]
        case ["run", "--rm", "--network", "none", "--user", "0:0", *rest]:
            names = [one.split(":")[0] for word, one in pairwise(rest) if word == "--volume"]
            return in_volumes(state, rest[rest.index("--entrypoint") + 1], names, behaviour)
        case _:
            print(f"the fake knows no docker {words}", file=sys.stderr)
            return 64
    return 0


def in_volumes(state, program, names, behaviour):
    """What stands in a volume is a sentence; a copy that is not finished has a mark at its end."""
    volumes, mark = state["volumes"], " (unfinished)"
    match program:
        case "test" if behaviour == "run fails":
            return 125
        case "test":
            return 1 if volumes[names[0]].endswith(mark) else 0
        case "rm":
            volumes[names[0]] = volumes[names[0]].removesuffix(mark)
        case "sh":
            if behaviour in {"disk full", "killed"}:
                volumes[names[1]] = "half of it" + mark
                return 1
            volumes[names[1]] = volumes[names[0]] + mark
    return 0


def compose(state, words, behaviour):
    match words:
        case ["version", "--short"]:
            if behaviour == "no compose":
                return 1
            print(state["compose"])
        case ["ps", "--all", "--quiet"]:
            print("gateway", *state["others"], sep="\n")
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
        case ["pull", "--quiet", "--ignore-buildable"]:
            return 1 if behaviour == "pull fails" else 0
        case ["up", "--detach", "--remove-orphans"]:
            image = state["images"]["latest"]
            state["volumes"].setdefault("mqtt-gateway_gateway-data", f"of {image}")
            state["container"] = {"image": image, "running": True}
            # What it makes of the store can't be undone.
            state["volumes"]["mqtt-gateway_gateway-data"] += f", migrated by {image}"
            if behaviour == "may not raise limits":
                state["container"]["running"] = False
                return 1
            # As where somebody waits for service_healthy: Prometheus does.
            return 1 if behaviour == "up waits for health" and image in state["sick"] else 0
        case ["stop", "gateway", *_]:
            state["container"]["running"] = False
        case ["start", "gateway", *_]:
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
