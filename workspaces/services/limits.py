"""How many workspaces one person may have, and what a workspace may be called."""

from __future__ import annotations

from django.conf import settings

from accounts.access import owned_by
from accounts.models import User
from kernel.errors import Invalid, TooMany
from workspaces.models import Workspace
from workspaces.states import GONE

LONGEST_NAME = 100


def lock_places(owner: User) -> None:
    """Serialise, until the transaction ends, all that gives one person another workspace.

    So that two at once cannot pass the limit together. Foreign keys to the user, such as the history's, do not wait.
    """
    User.objects.select_for_update(no_key=True).get(pk=owner.pk)


def check_place(owner: User) -> None:
    """Whether one more workspace is allowed, to be asked under `lock_places`.

    Raises:
        TooMany: the owner has as many as one person may have, those in the trash not counted.
    """
    limit = settings.ENVIRONMENT.max_workspaces
    used = Workspace.objects.filter(owned_by(owner)).exclude(state__in=[state.value for state in GONE]).count()
    if used >= limit:
        raise TooMany(
            "workspace_limit",
            f"You have {used} workspaces, and {limit} are allowed.",
            "Delete one that you no longer need.",
            temporary=False,
        )


def tidy_name(name: str, *, shortest: int) -> str:
    """A workspace's name, each run of white space as one space.

    Raises:
        Invalid: it has fewer than `shortest` (0 or 1) or more than 100 characters, or some that cannot be printed.
    """
    tidy = " ".join(name.split())
    if not shortest <= len(tidy) <= LONGEST_NAME or not tidy.isprintable():
        raise Invalid(
            "name_invalid",
            f"A name has {shortest} to {LONGEST_NAME} printable characters.",
            "Choose another name.",
            field="name",
        )
    return tidy
