"""The product's settings in a data folder of the test run's own. Only the password hasher is another, for speed."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_folder = tempfile.mkdtemp(prefix="slw-")
_owner = os.getpid()


def _forget() -> None:
    """Only in the process that made it: forked children run exit handlers too."""
    if os.getpid() == _owner:
        shutil.rmtree(_folder, ignore_errors=True)


atexit.register(_forget)
os.environ.update(
    {
        "SLIPWAY_HOME": _folder,
        "SLIPWAY_ALLOW_FILE_REPOSITORIES": "true",
        "SLIPWAY_RUNTIME": "fake",
        "SLIPWAY_LOG_FORMAT": "json",
        "DATABASE_URL": os.environ.get("SLIPWAY_TEST_DATABASE_URL", ""),
        "REDIS_URL": "",
    }
)
for _name in ("SLIPWAY_PORTAL_URL", "SLIPWAY_PORT", "SLIPWAY_SECRET_KEY", "SLIPWAY_GITHUB_TOKEN"):
    os.environ.pop(_name, None)

from config.settings import *  # noqa: E402, F403

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):  # noqa: F405 - From the product's settings.
    # In a file, as in the product: SQLite in memory has other locks, and no WAL, for its threads.
    DATABASES["default"]["TEST"] = {"NAME": f"{_folder}/test.sqlite3"}  # noqa: F405 - The same.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
WHITENOISE_AUTOREFRESH = True
