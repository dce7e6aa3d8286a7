#!/bin/sh
# Makes the virtual environment $1 with the Python $2, or, if none is named, with python3.
#
# A python3 that was built without profile-guided optimisation, as pyenv builds it unless told, takes a third more CPU
# for a command and a tenth for a message (docs/adr/0023): then the distribution's is taken instead, whose builds are
# optimised, if it is new enough.
set -eu

venv=$1
python=${2:-}
distribution=/usr/bin/python3

fail() {
    echo "make: $1" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

can_make_one() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

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
    command -v "$python" >/dev/null || fail "there is no $python: on Debian, apt-get install python3 python3-venv"
    if ! is_optimised "$python" && is_new_enough "$distribution" && can_make_one "$distribution"; then
        echo "$(command -v "$python") was built without optimisation: taking $distribution (PYTHON=$python keeps to it)"
        python=$distribution
    fi
fi
command -v "$python" >/dev/null || fail "there is no $python"
is_new_enough "$python" || fail "$python is older than Python 3.11: name another one, as in make PYTHON=python3.12"
can_make_one "$python" || fail "$python has no venv module: on Debian, apt-get install python3-venv"
"$python" -m venv "$venv" || { rm -rf "$venv"; fail "$python could not make $venv"; }
