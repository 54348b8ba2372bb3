"""From a signed-in browser to a workspace's own host: one-time codes, workspace cookies, and the gateway's questions.

A workspace runs its owner's code, so it never sees a portal cookie. Its host gets a cookie of its own, which says which
session opened it; when that session ends, so does the cookie.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from typing import Any, cast
from urllib.parse import urlencode, urlsplit

import redis as redis_library
from django.conf import settings

from accounts import access
from accounts import selectors as accounts
from accounts.access import Ability
from accounts.models import AuditClass, Scope, User
from accounts.services import audit
from accounts.services.gateways import session_tag
from accounts.services.tokens import note_token_use
from kernel import crypto, redis
from kernel.errors import ClusterFault, Invalid
from workspaces.models import Workspace
from workspaces.selectors import no_workspace, opened_by, workspace_of
from workspaces.services import intents
from workspaces.services.events import subject_of
from workspaces.services.run_secrets import door_key
from workspaces.states import Desired, Reason, State

CODE_SECONDS = 60
COOKIE_SECONDS = 24 * 3600
ANSWER_SECONDS = 10
_WAKES = frozenset({State.RUNNING.value, State.STOPPING.value, State.STOPPED.value})
_PORT = re.compile(r"[1-9][0-9]{3,4}")
_LABEL = re.compile(r"(?:(?P<port>[1-9][0-9]{3,4})-)?(?P<slug>[a-z][a-z0-9-]{0,38}[a-z0-9])")
_STATE = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who stands behind a request to a workspace's host: a user, and the tag of what they came with."""

    user: User
    session: str | None


def parse_label(label: str) -> str:
    """The slug in a host label, `<slug>` or `<port>-<slug>`.

    Raises:
        NotFound: it is neither.
    """
    found = _LABEL.fullmatch(label)
    if found is None or not (found["port"] is None or 1024 <= int(found["port"]) <= 65535):
        raise no_workspace()
    return found["slug"]


def port_of(text: str) -> int | None:
    """The port of a workspace's program that `text` names; None where it names none."""
    found = _PORT.fullmatch(text)
    return int(text) if found and 1024 <= int(text) <= 65535 else None


def local_path(text: str) -> str:
    """`text` if it is a path on the same host, else "/": nobody is sent elsewhere by a link of ours."""
    safe = text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable()
    return text if safe and len(text) <= 4096 else "/"


def host_url(label: str, path: str = "/") -> str:
    """The address of a workspace's host."""
    portal = urlsplit(settings.ENVIRONMENT.portal_url)
    return f"{portal.scheme}://{label}.{portal.netloc}{path}"


def enter(*, user: User, session_key: str, label: str, state: str, path: str) -> str:
    """The address, on the workspace's host, that turns a one-time code into that host's cookie.

    Raises:
        NotFound: not a workspace of this user.
        Invalid: `state` is not what a gateway sends.
        ClusterFault: Redis is away; codes live there.
    """
    workspace = workspace_of(user, parse_label(label), ability=Ability.OPEN)
    if not _STATE.fullmatch(state):
        raise Invalid("state_invalid", "This link is incomplete.", "Open the workspace from the portal.")
    code = crypto.new_token("slc_")
    grant = {"user": user.pk, "session": session_key, "label": label, "state": state}
    with _redis_needed():
        redis.client().set(f"slipway:code:{crypto.digest(code)}", crypto.seal(grant), ex=CODE_SECONDS)
    audit.record("workspace.enter", subject_of(workspace), actor=user, kind=AuditClass.ACCESS)
    return host_url(label, "/_slipway/enter?" + urlencode({"code": code, "state": state, "next": local_path(path)}))


def redeem(*, code: str, label: str, nonce: str) -> tuple[str, int]:
    """The cookie, and its age in seconds, for a code that was made for this host and this browser. Works once.

    Raises:
        Invalid: unknown, used, expired, for another host, or begun in another browser; which is not told.
    """
    with _redis_needed():
        sealed = cast("bytes | None", redis.client().getdel(f"slipway:code:{crypto.digest(code)}"))
    grant = crypto.unseal(sealed.decode(), max_age=CODE_SECONDS) if sealed else None
    proof = hashlib.sha256(nonce.encode()).hexdigest()
    if grant is None or grant["label"] != label or not hmac.compare_digest(grant["state"], proof):
        raise Invalid("code_spent", "This link was used before or has expired.", "Open the workspace again.")
    cookie = crypto.seal(
        {"user": grant["user"], "session": grant["session"], "label": label, "salt": secrets.token_hex(4)}
    )
    return cookie, COOKIE_SECONDS


@contextmanager
def _redis_needed() -> Iterator[None]:
    """Says so where nothing works without Redis."""
    try:
        yield
    except redis_library.RedisError as error:
        raise ClusterFault(
            "redis_away", "A part of Slipway is restarting.", "Try again in a few seconds.", retry_after=2
        ) from error


def _caller(*, label: str, cookie: str | None, bearer: str | None, now: datetime) -> Caller | None:
    if bearer is not None:
        token = accounts.valid_token(bearer, now=now)
        if token is None or not access.allows(token.scopes, needed=Scope.WORKSPACES):
            return None
        note_token_use(token, now=now)
        return Caller(token.user, None)
    grant = crypto.unseal(cookie, max_age=COOKIE_SECONDS) if cookie else None
    if grant is None or grant.get("label") != label:
        return None
    user = accounts.active_user(grant["user"])
    if user is None or not _session_of(grant["session"], user):
        return None
    return Caller(user, session_tag(grant["session"]))


def _session_of(session_key: str, user: User) -> bool:
    """Whether the session lives and is still this user's (a changed password ends it, as in the portal)."""
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    data = store.load()
    return data.get("_auth_user_id") == str(user.pk) and hmac.compare_digest(
        data.get("_auth_user_hash", ""), user.get_session_auth_hash()
    )


def authorize(
    *, slug: str, port: int | None, cookie: str | None, bearer: str | None, wake: bool, now: datetime
) -> dict[str, Any]:
    """The gateway's question: may this request go to this workspace, and where is it?

    With `wake`, a person is opening the page. So one that is stopped or stops is started, a stop that has not begun is
    called off, and a run that is about to be replaced is not shown any more.
    """
    label = slug if port is None else f"{port}-{slug}"
    caller = _caller(label=label, cookie=cookie, bearer=bearer, now=now)
    if caller is None:
        return _answer("sign_in", slug)
    workspace = opened_by(caller.user, slug)
    if workspace is None:
        return _answer("not_found", slug, caller)
    if wake and workspace.desired == Desired.STOPPED.value and workspace.state in _WAKES:
        workspace = intents.start(workspace, actor=caller.user, now=now, reason=Reason.URL_OPENED)
    ending = wake and workspace.restart_pending
    if workspace.state == State.RUNNING.value and workspace.upstream and not ending:
        return _answer("allow", slug, caller, workspace)
    return _answer("not_running", slug, caller, workspace)


def _answer(
    decision: str, slug: str, caller: Caller | None = None, workspace: Workspace | None = None
) -> dict[str, Any]:
    return {
        "decision": decision,
        "slug": slug,
        "workspace": str(workspace.pk) if workspace else None,
        "user": str(caller.user.pk) if caller else None,
        "session": caller.session if caller else None,
        "state": workspace.state if workspace else "",
        "reason": workspace.reason if workspace else "",
        "upstream": _upstream(workspace) if workspace and decision == "allow" else {},
        "ttl": ANSWER_SECONDS,
        "start_page": f"{settings.ENVIRONMENT.portal_url}/workspaces/{slug}/start",
    }


def _upstream(workspace: Workspace) -> dict[str, str]:
    """Where the workspace is reached; across a network with the key to its door."""
    upstream: dict[str, str] = dict(workspace.upstream)
    if any(address.startswith("tcp://") for address in upstream.values()):
        upstream["key"] = door_key(workspace.pk, workspace.run)
    return upstream
