#!/bin/sh
# Makes the virtual environment $1 with the Python $2, or, if none is named, with python3.
#
# A python3 that was built without profile-guided optimisation, as pyenv builds it unless told, takes a third more CPU
# for a command and a tenth for a message (docs/adr/0023): then the distribution's is taken instead, whose builds are
# optimised; and so it is where python3 will not do at all.
set -eu

venv=$1
python=${2:-}
distribution=/usr/bin/python3

fail() {
    echo "make: $1" >&2
    exit 1
}

# What is wrong with the Python $1, and what to do; nothing if it will do.
fault_of() {
    if ! command -v "$1" >/dev/null; then
        echo "there is no $1: on Debian, apt-get install python3 python3-venv"
    elif ! said=$("$1" -c '' 2>&1); then
        echo "$1 does not run ($(echo "$said" | head -n 1)): name another one, as in make setup PYTHON=python3.12"
    elif ! "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        echo "$1 is older than Python 3.11: name another one, as in make setup PYTHON=python3.12"
    elif ! "$1" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$1 has no venv module: on Debian, apt-get install python3-venv"
    fi
}

# Builders that call configure name the option; a distribution's rules may do the same work by other means.
is_optimised() {
    "$1" - "$(dirname "$distribution")" <<'PYTHON'
import os, sys, sysconfig
arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
of_distribution = os.path.dirname(os.path.realpath(sys.executable)) == os.path.realpath(sys.argv[1])
sys.exit("--enable-optimizations" not in arguments and not of_distribution)
PYTHON
}

if [ -z "$python" ]; then
    python=python3
    fault=$(fault_of "$python")
    if [ -z "$fault" ] && ! is_optimised "$python"; then
        fault="$(command -v "$python") was built without optimisation (PYTHON=$python keeps to it)"
    fi
    if [ -n "$fault" ] && [ -z "$(fault_of "$distribution")" ]; then
        echo "Taking $distribution: $fault"
        python=$distribution
    fi
fi
fault=$(fault_of "$python")
[ -z "$fault" ] || fail "$fault"
# An environment that is there was left by a failure, or is of a Python that is gone; anything else is not ours.
if [ -L "$venv" ] || { [ -n "$(ls -A "$venv" 2>/dev/null)" ] && [ ! -f "$venv/pyvenv.cfg" ]; }; then
    fail "$venv is there and is no virtual environment: take it away, or name another place, as in make setup VENV=/tmp/venv"
fi
"$python" -m venv --clear "$venv" || { rm -rf "$venv"; fail "$python could not make $venv"; }
