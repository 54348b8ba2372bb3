"""What a fault of the database means: whether waiting helps, and who can mend it when it does not."""

from __future__ import annotations

from django.db import InterfaceError, InternalError, OperationalError

from kernel import errors

BUSY = errors.ClusterFault(
    "database_busy", "The database is busy.", "Nothing was changed. Try again in a few seconds.", retry_after=2
)
SLOW = errors.ClusterFault(
    "database_slow",
    "The database took too long.",
    "Nothing was changed. Try again in a minute; if it stays so, tell your administrator.",
    retry_after=30,
)
FULL = errors.ClusterFault(
    "database_full",
    "There is no room left for the database.",
    "Nothing was changed. Ask your administrator to make room on its disk.",
    temporary=False,
)
READ_ONLY = errors.ClusterFault(
    "database_read_only",
    "The database cannot be written.",
    "Nothing was changed. Ask your administrator to look at the database, its disk and the rights on its files.",
    temporary=False,
)
# Primary result codes (sqlite.org/rescode.html): PERM, BUSY, LOCKED, READONLY, INTERRUPT, IOERR, FULL, CANTOPEN and
# PROTOCOL.
_SQLITE = {3: READ_ONLY, 5: BUSY, 6: BUSY, 8: READ_ONLY, 9: SLOW, 10: READ_ONLY, 13: FULL, 14: READ_ONLY, 15: BUSY}
# PostgreSQL's manual, appendix A: a code, or the first two letters of a whole class.
_POSTGRESQL = {
    "08": BUSY,
    "25006": READ_ONLY,
    "40": BUSY,
    "53": BUSY,
    "53100": FULL,
    "55P03": BUSY,
    "57014": SLOW,
    "57P": BUSY,
    "58": READ_ONLY,
}


def fault(error: BaseException) -> errors.Failure | None:
    """The failure that an exception of Django's database layer stands for; None for a mistake of ours, and others."""
    if not isinstance(error, OperationalError | InterfaceError | InternalError):
        return None
    cause = error.__cause__
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return _SQLITE.get(code & 0xFF)
    state = getattr(cause, "sqlstate", None)
    if state is None:
        # It never came to a statement: no connection, or none within the time.
        return None if isinstance(error, InternalError) else BUSY
    return next((_POSTGRESQL[part] for part in (state, state[:3], state[:2]) if part in _POSTGRESQL), None)
