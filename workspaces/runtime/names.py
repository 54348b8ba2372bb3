"""The names of workspaces, as every adapter takes them."""

from __future__ import annotations

import re

from workspaces.runtime.errors import PlatformFault

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123, section 2.1; lower case only.
_KEY = re.compile(r"[a-z0-9]{1,40}")


def checked(name: str) -> str:
    """The name, if it is a DNS label: it cannot lead out of a folder, and is a name in Kubernetes too.

    Raises:
        PlatformFault: it is not.
    """
    if _LABEL.fullmatch(name) is None:
        raise PlatformFault(
            "invalid_name",
            "This workspace has a name that Slipway cannot use.",
            "Create the workspace again under another name.",
            log_text=f"not a DNS label: {name!r}",
        )
    return name


def checked_key(key: str) -> str:
    """The key of a snapshot, if it can be part of any adapter's names.

    Raises:
        PlatformFault: it cannot.
    """
    if _KEY.fullmatch(key) is None:
        raise PlatformFault("invalid_name", "This snapshot has a name that Slipway cannot use.", log_text=repr(key))
    return key
