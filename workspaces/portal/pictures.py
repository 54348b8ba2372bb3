"""Live parts of pages, rendered: what a page shows at first, and what its stream sends when it changed.

A piece is the HTML of one element with an id; the browser puts it in the place of the element that has this id. Pieces
hold no form tokens and no times relative to now, so the same rows give the same text.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from accounts.models import User
from workspaces import selectors
from workspaces.models import Workspace
from workspaces.portal import present
from workspaces.portal.present import Goal
from workspaces.states import State

PAGE = 50
HISTORY = 80


@dataclasses.dataclass(frozen=True, slots=True)
class Picture:
    """What is to be seen now.

    Attributes:
        pieces: HTML by the id of its element.
        frame: id and HTML of the element around the pieces, where their number or order may change.
        order: changes when the frame has to be drawn anew.
    """

    pieces: Mapping[str, SafeString]
    frame: tuple[str, SafeString] | None = None
    order: str = ""

    @property
    def digest(self) -> str:
        """Names this picture; a browser that has it already needs nothing."""
        text = "\0".join([self.order, *self.pieces.values()])
        return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """What a list shows: rows that match `text`, after the cursor `after`."""

    text: str = ""
    after: str = ""


def list_picture(user: User, query: Query) -> Picture:
    """The list of workspaces."""
    rows = selectors.shown_to(user)
    found, older = selectors.page_of(
        selectors.matching(rows, query.text), by="created_at", after=query.after, limit=PAGE
    )
    steps = selectors.conditions_of_all([row for row in found if row.state == State.STARTING.value])
    shown = [present.show(row, steps.get(row.pk, ())) for row in found]
    pieces = {f"w-{row.workspace.slug}": _render("row", {"row": row}) for row in shown}
    context = {"rows": list(pieces.values()), "query": query, "older": older, "any": bool(found) or rows.exists()}
    return Picture(pieces, ("list", _render("list", context)), "|".join([*pieces, older or ""]))


def detail_picture(user: User, slug: str) -> Picture:
    """Everything on a workspace's page but its log."""
    workspace = selectors.workspace_of(user, slug)
    context = {
        **_context(workspace),
        "visibility": present.visibility(workspace),
        "languages": present.languages(workspace),
        "ports": present.ports(workspace),
        "entries": present.history(selectors.latest_events_of(workspace, limit=HISTORY)),
        "grants": selectors.grants_of(workspace),
    }
    names = ("detail_head", "detail_facts", "detail_start", "detail_events", "detail_shares")
    return Picture({name: _render(name, context) for name in names})


def start_picture(user: User, slug: str, goal: Goal) -> Picture:
    """A workspace's start, which leads to `goal`."""
    workspace = selectors.workspace_of(user, slug)
    context = {**_context(workspace), "goal": goal, "landing": present.landing(workspace, goal)}
    return Picture({"start_panel": _render("start_panel", context)})


def _context(workspace: Workspace) -> dict[str, object]:
    rows = selectors.conditions_of(workspace)
    return {
        "row": present.show(workspace),
        "workspace": workspace,
        "waterfall": present.waterfall(workspace, rows, now=timezone.now()),
    }


def _render(name: str, context: dict[str, object]) -> SafeString:
    return render_to_string(f"workspaces/parts/{name}.html", context)
