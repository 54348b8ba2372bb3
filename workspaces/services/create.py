"""Creating a workspace: asked, checked, kept, and left to the operator."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import unicodedata
from datetime import datetime

from django.db import IntegrityError, transaction

from accounts.access import owned_by
from accounts.models import User
from kernel import jobs
from kernel.errors import Conflict, Invalid
from workspaces.models import Repository, Workspace
from workspaces.repositories.port import Resolved
from workspaces.services import conditions, events, limits, repositories
from workspaces.states import ConditionStatus, ConditionType, EventKind, Reason

LONGEST_KEY = 128
# Without vowels and look-alikes, so that chance spells no words.
_SUFFIX = "bcdfghjkmnpqrstvwxz23456789"
TRIES = 5


def create(
    *, owner: User, repo: str, branch: str | None, name: str = "", idempotency_key: str | None = None, now: datetime
) -> tuple[Workspace, bool]:
    """Accept a new workspace of `repo` at `branch` (the default branch where empty).

    Returns:
        The workspace, and whether it is new: the same idempotency key gives the same workspace.

    Raises:
        Invalid: the repository, branch, name or key cannot be understood.
        Conflict: the key was used for another request.
        TooMany: the owner has as many workspaces as one person may have.
        Failure: what the repository's host said (see `services.repositories.resolve`).
    """
    asked = hashlib.sha256(json.dumps([repo, branch or "", name]).encode()).hexdigest()
    if idempotency_key is not None:
        again = _earlier(owner, idempotency_key, asked)
        if again is not None:
            return again, False
    resolved = repositories.resolve(repo, branch=branch or None)
    repository = repositories.remember(resolved.metadata, now=now)
    for _ in range(TRIES):
        try:
            return _insert(owner, repository, resolved, name, idempotency_key, asked, now)
        except IntegrityError:  # Chance made a slug that is taken.
            continue
    raise Conflict("slug_taken", "No free address was found for this name.", "Try again.", temporary=True)


def _earlier(owner: User, key: str, asked: str) -> Workspace | None:
    if not key or len(key) > LONGEST_KEY or not key.isprintable():
        raise Invalid(
            "idempotency_key_invalid",
            f"An Idempotency-Key has 1 to {LONGEST_KEY} printable characters.",
            "Send a random one, such as a UUID.",
        )
    found = Workspace.objects.select_related("repository").filter(owned_by(owner), idempotency_key=key).first()
    if found is not None and found.request_digest != asked:
        raise Conflict(
            "idempotency_key_reused",
            "This Idempotency-Key was used for a different request.",
            "Send a new key with each new request.",
        )
    return found


def _insert(
    owner: User, repository: Repository, resolved: Resolved, name: str, key: str | None, asked: str, now: datetime
) -> tuple[Workspace, bool]:
    with transaction.atomic():
        limits.lock_places(owner)
        # Whoever held the lock may have been the same request, and may have taken the last place.
        again = _earlier(owner, key, asked) if key is not None else None
        if again is not None:
            return again, False
        limits.check_place(owner)
        shown = limits.tidy_name(name, shortest=0) or repository.full_name.rsplit("/", 1)[-1][: limits.LONGEST_NAME]
        workspace = Workspace.objects.create(
            slug=make_slug(shown, fallback=repository.full_name.rsplit("/", 1)[-1]),
            name=shown,
            owner=owner,
            repository=repository,
            clone_url=repository.clone_url,
            repository_name=repository.full_name,
            ref=resolved.ref,
            branch=resolved.branch or "",
            commit=resolved.commit or "",
            idempotency_key=key,
            request_digest=asked,
            wanted_at=now,
            progress_at=now,
            look_again_at=now,
        )
        events.record(workspace, EventKind.STATE, target=workspace.state, reason=Reason.CREATED.value, actor=owner)
        conditions.put(
            workspace, ConditionType.QUEUED, ConditionStatus.RUNNING, now=now, message="Waiting for its turn"
        )
        jobs.enqueue("workspaces.reconcile", str(workspace.pk))
    return workspace, True


def make_slug(name: str, *, fallback: str = "") -> str:
    """A DNS label of at most 40 characters that begins with a letter, ends in five random characters, and reads like
    `name` as far as that can be written in a host name (RFC 1123 section 2.1)."""
    label = "workspace"
    for text in (name, fallback):
        plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
        tidy = re.sub(r"^[^a-z]+", "", re.sub(r"[^a-z0-9]+", "-", plain))[:32].strip("-")
        if tidy:
            label = tidy
            break
    suffix = "".join(secrets.choice(_SUFFIX) for _ in range(5))
    return f"{label}-{suffix}"
