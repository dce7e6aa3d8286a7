"""How many files this process may have open, and how many connections fit in that.

A connection takes two descriptors, the device's socket and the bus's. Where the system gives fewer than
`connections` of `acl/limits.toml` needs, a start and `gateway check` say so, and no more are let in than fit.
"""

from __future__ import annotations

import resource

from gateway.policy.engine.limits import Limits

_OF_A_CONNECTION = 2
_BESIDE = 2_400
"""Descriptors for all else: peers that have not said who they are (TLS handshakes among them), HTTPS, the
store and files."""


def needed(limits: Limits) -> int:
    """How many descriptors it takes to serve all the connections that the limits allow."""
    return limits.connections * _OF_A_CONNECTION + _BESIDE


def allowed() -> int:
    """Descriptors that this process may have if it asks for them: the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 2**31 if hard == resource.RLIM_INFINITY else hard


def ask_for(limits: Limits) -> None:
    """Raise the soft limit to what is needed, as far as the hard one allows: most shells start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(needed(limits), allowed())
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_that_fit(files: int) -> int:
    """Established connections for which `files` descriptors are enough; `files` // 8 where that is more.

    Where there are hardly more descriptors than the rest may need, some connections are let in all the same.
    """
    return max((files - _BESIDE) // _OF_A_CONNECTION, files // 8)


def shortage(limits: Limits, files: int) -> str:
    """What to say when `files` descriptors are too few for the limits; empty when they are not."""
    if files >= needed(limits):
        return ""
    return (
        f"connections = {limits.connections} in acl/limits.toml needs {needed(limits)} open files, and the "
        f"hard limit is {files}: no more than {connections_that_fit(files)} connections are let in. Raise it "
        "(LimitNOFILE= in systemd, `ulimit -n` in a shell, --ulimit nofile= in Docker), or lower connections"
    )
