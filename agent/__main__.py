"""`python -m agent`."""

from __future__ import annotations

import sys

from agent.main import run

if __name__ == "__main__":
    sys.exit(run())
