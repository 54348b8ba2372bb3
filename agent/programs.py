"""The agent's own small programs, as others are told to call them."""

from __future__ import annotations

import sys
from pathlib import Path


def command(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Command line and variables that run a module of the agent, whatever folder and Python its caller has."""
    root = Path(__file__).resolve().parent.parent
    return [sys.executable, "-P", "-s", "-m", module, *arguments], {"PYTHONPATH": str(root)}
