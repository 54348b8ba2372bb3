"""What the adapters' settings have in common: values held against a schema, and files that settings name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from workspaces.runtime.errors import PlatformFault


def mistake(options: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What is most wrong about options, with the place where it stands; empty when nothing is."""
    wrong = best_match(Draft202012Validator(schema).iter_errors(options))
    if wrong is None:
        return ""
    where = ".".join(str(step) for step in wrong.absolute_path)
    return f"{f'`{where}`: ' if where else ''}{wrong.message}"


def text_of(path: Path) -> str:
    """What stands in a file that a setting names.

    Raises:
        PlatformFault: "runtime_misconfigured": it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlatformFault(
            "runtime_misconfigured",
            "Workspaces are not set up correctly here: the registry's credentials cannot be read.",
            "Ask the operator to correct the runtime's settings.",
            log_text=f"{path}: {error}",
        ) from error
