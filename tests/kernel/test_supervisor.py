"""The folders that the platform trusts, and the lock on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from config.supervisor import CannotStart, only_one, own_folder


def test_a_folder_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    own_folder(tmp_path / "mine", 0o711)
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o711
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "theirs").mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "theirs", 12345, 12345)
        with pytest.raises(CannotStart, match="not a folder of this account"):
            own_folder(tmp_path / "theirs", 0o711)
    with pytest.raises(CannotStart, match="not a folder of this account"):
        own_folder(tmp_path / "link", 0o711)


def test_a_data_folder_is_used_once(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(CannotStart, match="already runs"):
        only_one(tmp_path)
    only_one(tmp_path).close()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "up.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Too many levels"):
        only_one(tmp_path)
    assert (tmp_path / "precious").read_text() == "kept"
