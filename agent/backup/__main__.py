"""`python -m agent.backup`."""

from __future__ import annotations

import sys

from agent.backup.main import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
