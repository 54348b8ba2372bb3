"""`manage.py up`, from the chair of the person who types it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.support.platform import Platform
from tests.support.waiting import eventually


def test_ctrl_c_during_a_start_is_not_taken_for_the_end_of_it() -> None:
    platform = Platform(SLIPWAY_RUNTIME="fake")
    try:
        platform.begin()
        eventually(lambda: "Starting …" in platform.said, timeout=60, every=0.005)
        platform.stop()
        assert "Stopped." in platform.said
        assert "Slipway is up" not in platform.said
        assert (platform.home / "up.out").read_text() == ""
        with closing(sqlite3.connect(platform.home / "slipway.sqlite3")) as database:
            assert database.execute("SELECT count(*) FROM accounts_signinlink").fetchone() == (0,)
        assert platform.leftovers() == []
    finally:
        platform.close()
