"""What a service manager is notified of: that the start is done, we stop, or are still alive (sd_notify(3)).

Nothing happens where nobody asked: without NOTIFY_SOCKET, as outside of systemd.
"""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Notify it of a state, such as `READY=1`. Never waits, and ignores that the manager does not listen."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in {"/", "@"}:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.setblocking(False)  # noqa: FBT003 - socket's own signature
        with contextlib.suppress(OSError):
            manager.sendto(state.encode(), "\0" + path[1:] if path[0] == "@" else path)


def watchdog_seconds() -> float | None:
    """Seconds from one WATCHDOG=1 to the next: half of what the manager allows; None: it wants none."""
    asked, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not asked.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(asked) / 2_000_000 or None
