"""What GitHub's refusals mean for the user: `kernel.errors` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from kernel.errors import ClusterFault, Failure, Forbidden, TooMany

_DEFAULT_WAIT = 60.0
"""Seconds; what GitHub asks for where it names no time."""

_LONGEST_WAIT = 3600.0
"""GitHub's limits are per hour, so anything longer is a mistake or a clock that is wrong."""


def wait_of(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> float:
    """Seconds to leave GitHub alone, 0 if it may be asked again.

    The primary limit shows as `x-ratelimit-remaining: 0` on any answer, the secondary one as 403 or 429 with
    `retry-after` or with words (https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api).
    """
    refused = status == 429 or (
        status == 403 and (b"rate limit" in body.lower() or "retry-after" in headers or _exhausted(headers))
    )
    if refused and "retry-after" in headers:
        return _bounded(_number(headers["retry-after"]))
    if _exhausted(headers):
        return _bounded(_number(headers.get("x-ratelimit-reset", "")) - now)
    return _DEFAULT_WAIT if refused else 0.0


def _exhausted(headers: Mapping[str, str]) -> bool:
    return headers.get("x-ratelimit-remaining", "") == "0"


def _number(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 15 else 0.0


def _bounded(seconds: float) -> float:
    return min(seconds, _LONGEST_WAIT) if seconds >= 1 else 1.0


def failure(status: int, wait: float) -> Failure:
    """For an answer that no caller can do anything with.

    Args:
        wait: what `wait_of` made of it.
    """
    if wait:
        return limited(wait)
    if status == 401:
        return ClusterFault(
            "github_token_refused",
            "GitHub does not accept this platform's access token.",
            "Ask the administrator of this platform to renew its GitHub token.",
            temporary=False,
        )
    if status == 451:
        return Forbidden(
            "repository_blocked",
            "GitHub has blocked this repository for legal reasons.",
            "Use another repository.",
            field="repo",
        )
    if status == 403:
        return Forbidden(
            "repository_forbidden",
            "GitHub does not let this platform see the repository.",
            "Ask the repository's owner whether single sign-on or an IP allow list restricts access.",
            field="repo",
        )
    return unexpected(f"HTTP {status}")


def limited(wait: float) -> TooMany:
    """GitHub takes no more requests for `wait` seconds."""
    minutes = max(1, round(wait / 60))
    shown = "a minute" if minutes == 1 else f"{minutes} minutes"
    return TooMany(
        "github_rate_limited",
        "GitHub is not taking more requests from this platform for now.",
        f"Try again in {shown}. A GitHub token in the platform's settings raises the limit.",
        retry_after=round(wait),
    )


def unexpected(detail: str) -> ClusterFault:
    """GitHub, or something that stands in its place, answered in a way that makes no sense."""
    return ClusterFault(
        "github_answer_unexpected",
        "GitHub gave an answer that could not be understood.",
        "Try again in a minute. If it goes on, ask the administrator to check the GitHub address in the settings.",
        log_text=f"unexpected answer from GitHub: {detail}",
    )
