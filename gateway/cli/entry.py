"""The first lines of `gateway`: signals, before the rest is imported."""

from __future__ import annotations

import sys

from gateway.system.early_signals import until_the_loop_runs


def main() -> None:
    """Entry point."""
    if "run" in sys.argv[1:4]:  # --config FILE may come first
        until_the_loop_runs()
    from gateway.cli.run import main as command

    command()
