"""Every failure Slipway can explain, as one small tree that says who is responsible.

    Failure
    ├── UserFault             the caller's or the workspace owner's to change
    │   ├── Invalid           what was sent cannot be understood            (400)
    │   ├── Unauthenticated   nobody is signed in                           (401)
    │   ├── Forbidden         known, but not allowed                        (403)
    │   ├── NotFound          not there, or not the caller's to see         (404)
    │   ├── Conflict          not in this state, or somebody was first      (409)
    │   └── TooMany           slower, or less of it                         (429)
    ├── ClusterFault          the machine, cluster or service under us      (503)
    └── PlatformFault         our own mistake                               (500)

`temporary` says whether the same call may succeed later without anybody changing anything. Each failure carries a text
for the user, what to do next, and a text for the log; none of them may hold a secret.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Responsible = Literal["user", "cluster", "platform"]


class Failure(Exception):
    """Base of the tree; raise a subclass.

    Args:
        code: stable snake_case word for programs, metrics and translations.
        user_text: one sentence for the user, without paths, stack traces or secrets.
        next_step: one sentence that says what to do now.
        log_text: details for the log; the user's text when empty.
        temporary: overrides the class's own answer.
        retry_after: seconds after which trying again makes sense, where that is known.
        field: name of the input field at fault, where there is one.
    """

    responsible: ClassVar[Responsible] = "platform"
    status: ClassVar[int] = 500
    temporary: bool = False

    def __init__(
        self,
        code: str,
        user_text: str,
        next_step: str = "",
        *,
        log_text: str = "",
        temporary: bool | None = None,
        retry_after: float | None = None,
        field: str = "",
    ) -> None:
        super().__init__(log_text or user_text)
        self.code = code
        self.user_text = user_text
        self.next_step = next_step
        self.log_text = log_text or user_text
        if temporary is not None:
            self.temporary = temporary
        self.retry_after = retry_after
        self.field = field


class UserFault(Failure):
    """The caller, or the workspace's own configuration, is at fault."""

    responsible = "user"
    status = 422


class Invalid(UserFault):
    """What was sent cannot be understood."""

    status = 400


class Unauthenticated(UserFault):
    """Nobody is signed in, or the token is not valid."""

    status = 401


class Forbidden(UserFault):
    """The caller is known but not allowed to do this."""

    status = 403


class NotFound(UserFault):
    """There is no such object, or the caller may not know that there is."""

    status = 404


class Conflict(UserFault):
    """The object's state does not allow this, or somebody else was first."""

    status = 409


class TooMany(UserFault):
    """A limit in number or in time has been reached."""

    status = 429
    temporary = True


class ClusterFault(Failure):
    """The machine, the cluster or a service we depend on could not do what it was asked."""

    responsible = "cluster"
    status = 503
    temporary = True


class PlatformFault(Failure):
    """Slipway itself is at fault."""
