"""`make demo`, which a newcomer sees first: it shows its point, and nothing that looks like a fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_shows_its_point_and_no_fault():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "demo.py"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the door code is 4711") == 2, "as the sender has it, and who may decrypt it"
    assert '{"encrypted":true' in done.stdout
    assert "SUBACK with return code 0x80" in done.stdout
    assert not done.stderr
