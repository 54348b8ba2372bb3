"""Requests to a registry: authorised the way it asks for, and repeated while it is away or busy.

https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import dataclasses
import email.utils
import json
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from agent.backup.credentials import ANYBODY, Credentials
from agent.problems import Problem

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_LONGEST_ASKED_FOR = 300.0
_LONGEST_ANSWER = 8 * 1024 * 1024
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_OPERATOR = "Ask the operator to look at the registry."


class Passing(Exception):
    """It did not work this time.

    Attributes:
        wait: seconds that the registry asks to wait, 0 where it does not say.
    """

    def __init__(self, detail: str, wait: float = 0.0) -> None:
        super().__init__(detail)
        self.wait = wait


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back: at most 8 MiB unless the request said otherwise."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def header(self, name: str) -> str:
        """A header, whatever the case of its name; empty when it is not there."""
        return self.headers.get(name, "")


class Pauses:
    """How long to wait before the next try, growing from half a second, until patience ends.

    Args:
        patience: seconds without any progress after which it is given up.
        say: told the reason of each wait.
        clock, sleep: of this machine.
    """

    def __init__(
        self,
        patience: float,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._patience = patience
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self.progress()

    def progress(self) -> None:
        """Something worked: patience starts anew."""
        self._tries = 0
        self._deadline = self._clock() + self._patience

    def wait(self, reason: Passing) -> None:
        """Wait before another try.

        Raises:
            Problem: patience is at an end.
        """
        grown = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._tries) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret.
        pause = max(grown, min(reason.wait, _LONGEST_ASKED_FOR))
        self._tries += 1
        if self._clock() + pause > self._deadline:
            raise Problem("registry_away", f"The registry does not take part: {reason}.", _OPERATOR, temporary=True)
        self._say(f"Trying again in {pause:.1f} s: {reason}")
        self._sleep(pause)


class Http:
    """A connection to one registry, used by one thread.

    Args:
        base: its address, such as https://registry.example.
        credentials: for it, or for whom it sends us to for a token.
        scope: what a token is asked for, such as repository:a/b:pull,push.
        authority: a file with certificates that are trusted; None: the machine's own.
        read_seconds: longest silence.
    """

    def __init__(
        self,
        base: str,
        credentials: Credentials = ANYBODY,
        *,
        scope: str = "",
        authority: Path | None = None,
        read_seconds: float = 60.0,
    ) -> None:
        self._base = base
        self._credentials = credentials
        self._scope = scope
        self._authorization = ""
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=10.0, read=read_seconds),
            ca_certs=str(authority) if authority is not None else None,
            retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5, raise_on_redirect=True),
        )

    def once(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = _LONGEST_ANSWER,
    ) -> Answer:
        """One request; a 401 is answered by saying who we are.

        Args:
            url: absolute, or relative to the registry's address.
            limit: bytes of the longest answer that is read.

        Raises:
            Passing: no answer, or one that says "not now".
            Problem: we may not do that, or the answer is too long.
        """
        answer = self._send(method, url, body, headers or {}, limit)
        if answer.status == 401:
            self._authorization = self._authorize(answer.header("WWW-Authenticate"))
            answer = self._send(method, url, body, headers or {}, limit)
        if answer.status in {401, 403}:
            raise _refused(f"{method} was answered {answer.status}")
        if answer.status in _PASSING:
            raise Passing(f"{method} was answered {answer.status}", _seconds(answer.header("Retry-After")))
        return answer

    def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], limit: int) -> Answer:
        target = urljoin(self._base, url)
        sent = dict(headers)
        # What a registry sends us on to, such as a store of objects, must not see who we are.
        if self._authorization and urlsplit(target).netloc == urlsplit(self._base).netloc:
            sent["Authorization"] = self._authorization
        try:
            found = self._pool.request(method, target, body=body, headers=sent, preload_content=False)
            try:
                content = found.read(limit + 1, decode_content=False) if method != "HEAD" else b""
                if len(content) <= limit:
                    found.drain_conn()
            finally:
                found.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unanswered(f"{method} {urlsplit(target).netloc}", error) from error
        if len(content) > limit:
            found.close()
            raise Problem("backup_damaged", "The registry's answer is longer than it can be.", _OPERATOR)
        return Answer(found.status, found.headers, content)

    def _authorize(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" and self._credentials.basic:
            return self._credentials.basic
        words = dict(_PARAMETER.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in words:
            raise _refused("it wants to know who we are, in a way that our credentials do not answer")
        return f"Bearer {self._token(words['realm'], words.get('service', ''), words.get('scope') or self._scope)}"

    def _token(self, realm: str, service: str, scope: str) -> str:
        if urlsplit(realm).scheme != "https" and urlsplit(self._base).scheme == "https":
            raise _refused("it wants our credentials over a connection that anybody can read")
        asked = {"service": service, "scope": scope}
        headers = {"Authorization": self._credentials.basic} if self._credentials.basic else {}
        form: bytes | None = None
        if self._credentials.identity_token:
            trade = {"grant_type": "refresh_token", "refresh_token": self._credentials.identity_token}
            form = urlencode({**asked, **trade, "client_id": "slipway"}).encode()
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
        url = realm if form else f"{realm}{'&' if '?' in realm else '?'}{urlencode(asked)}"
        try:
            found = self._pool.request("POST" if form else "GET", url, body=form, headers=headers)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unanswered("asking for a token", error) from error
        if found.status in _PASSING:
            raise Passing(f"asking for a token was answered {found.status}", _seconds(found.headers.get("Retry-After")))
        if found.status != 200:
            raise _refused(f"asking for a token was answered {found.status}")
        try:
            document = json.loads(found.data)
            return str(document.get("token") or document["access_token"])
        except (ValueError, KeyError, AttributeError):
            raise _refused("what should be a token is none") from None


def _unanswered(doing: str, error: Exception) -> Exception:
    """What to raise where no answer came: nearly always something that passes."""
    reason = getattr(error, "reason", None) or error
    if "CERTIFICATE_VERIFY_FAILED" in str(reason):
        return Problem(
            "registry_untrusted",
            "The registry's certificate is from nobody that is trusted here.",
            "Ask the operator to name the certificates that the registry's is from.",
        )
    return Passing(f"{doing}: {type(reason).__name__}")


def _refused(detail: str) -> Problem:
    return Problem(
        "registry_refused",
        f"The registry does not let Slipway in: {detail}.",
        "Ask the operator to correct the credentials for backups.",
    )


def _seconds(text: str | None) -> float:
    """Of a Retry-After header (RFC 9110, 10.2.3): seconds, or a date."""
    if not text:
        return 0.0
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return 0.0
