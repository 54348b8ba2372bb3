"""What git's complaints mean for the user. git has one exit code for all of them, so its words (in LC_ALL=C) decide."""

from __future__ import annotations

import re
from collections.abc import Callable

from kernel.errors import ClusterFault, Failure, Forbidden, Invalid, NotFound, UserFault

_LOG_CHARACTERS = 500


def failure(stderr: str) -> Failure:
    """The failure that git's error output stands for."""
    # Addresses stand in quotes, and may hold any of the words that are looked for.
    words = re.sub(r"'[^'\n]*'", "''", stderr).casefold()
    detail = stderr.strip()[-_LOG_CHARACTERS:]
    for patterns, make in _MEANINGS:
        if any(pattern in words for pattern in patterns):
            return make(detail)
    return ClusterFault(
        "repository_failed",
        "The repository's server gave an answer that could not be understood.",
        "Check the address. If it is right, try again in a minute.",
        log_text=detail,
        field="repo",
    )


def timed_out() -> ClusterFault:
    """The server is there but too slow, or drops what is sent to it."""
    return ClusterFault(
        "repository_timeout",
        "The repository's server did not answer in time.",
        "Check the address. If it is right, try again in a minute.",
        field="repo",
    )


def redirected(address: str) -> Invalid:
    """The server sends git on to another address, or, where that is empty, to what is no address to clone from."""
    if not address:
        return Invalid(
            "repository_redirects",
            "The server answers at this address, but only sends on to another page, such as one for signing in.",
            "Use the address you would give to “git clone”. If the repository is private, it cannot be read from here.",
            field="repo",
        )
    return Invalid("repository_moved", f"This address redirects to {address}.", "Use that one instead.", field="repo")


def unknown_host(detail: str) -> UserFault:
    """No server has the name in the address."""
    return UserFault(
        "repository_host_unknown",
        "There is no server of that name.",
        "Check the spelling of the server's name in the address.",
        log_text=detail,
        temporary=True,
        field="repo",
    )


def _certificate(detail: str) -> Failure:
    return ClusterFault(
        "repository_tls",
        "No secure connection to the repository's server was possible.",
        "Check the address. If the server has a certificate of its own, ask the administrator to trust it.",
        log_text=detail,
        temporary=False,
        field="repo",
    )


def _host_key(detail: str) -> Failure:
    return ClusterFault(
        "repository_host_key",
        "The repository's server has another ssh key than before.",
        "Use the https address, or ask the administrator to check the server's key.",
        log_text=detail,
        temporary=False,
        field="repo",
    )


def _unreachable(detail: str) -> Failure:
    return ClusterFault(
        "repository_unreachable",
        "The repository's server cannot be reached.",
        "Check the address and its port. If they are right, try again in a minute.",
        log_text=detail,
        field="repo",
    )


def _transport(detail: str) -> Failure:
    return Invalid(
        "repository_transport_refused",
        "This kind of address cannot be used.",
        "Use the https or ssh address of the repository.",
        log_text=detail,
        field="repo",
    )


def _missing(detail: str) -> Failure:
    return NotFound(
        "repository_not_found",
        "There is no repository at this address, or it is private and not shared with this platform.",
        "Check the spelling of the address.",
        log_text=detail,
        field="repo",
    )


def _too_large(detail: str) -> Failure:
    return UserFault(
        "repository_too_large",
        "The repository's server answers with more than can be looked at.",
        "Check the address. If it is right, use a repository with fewer branches and tags.",
        log_text=detail,
        field="repo",
    )


def _denied(detail: str) -> Failure:
    return Forbidden(
        "repository_access_denied",
        "The repository's server asks for a sign-in: the repository is private, or does not exist.",
        "Check the spelling. If it is private, ask the administrator how this platform can be given access.",
        log_text=detail,
        field="repo",
    )


def _no_key(detail: str) -> Failure:
    return Forbidden(
        "repository_access_denied",
        "The repository's server asks for an ssh key, and this platform has none.",
        "Use the repository's https address.",
        log_text=detail,
        field="repo",
    )


def _no_repository(detail: str) -> Failure:
    return NotFound(
        "repository_not_a_repository",
        "The server answers at this address, but not with a git repository.",
        "Use the address you would give to “git clone”.",
        log_text=detail,
        field="repo",
    )


# In this order: ssh ends every failure with "Could not read from remote repository", curl puts the cause first.
_MEANINGS: tuple[tuple[tuple[str, ...], Callable[[str], Failure]], ...] = (
    (("could not resolve", "name or service not known", "temporary failure in name resolution"), unknown_host),
    (("host key verification failed", "host identification has changed"), _host_key),
    (("ssl", "certificate", "gnutls", "tls"), _certificate),
    (("transport '' not allowed",), _transport),
    (("out of memory",), _too_large),
    (
        (
            "failed to connect",
            "couldn't connect",
            "connection refused",
            "connection timed out",
            "operation timed out",
            "connection reset",
            "no route to host",
            "network is unreachable",
            "connection closed by",
            "empty reply from server",
            "returned error: 5",
        ),
        _unreachable,
    ),
    # In brackets ssh names the ways of signing in; git's own words about a file have none.
    (("permission denied (",), _no_key),
    (
        (
            "authentication failed",
            "could not read username",
            "could not read password",
            "permission denied",
            "terminal prompts disabled",
            "returned error: 401",
            "returned error: 403",
            "dubious ownership",
        ),
        _denied,
    ),
    (("not valid: is this a git repository", "invalid content-type", "unexpected http status"), _no_repository),
    (("not found", "does not appear to be a git repository", "returned error: 404", "no such file"), _missing),
    (("protocol error", "bad line length", "invalid server response"), _no_repository),
)
