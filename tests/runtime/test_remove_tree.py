"""Deletion of trees as their owners like to leave them: deep, shut, full of links."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workspaces.runtime.local.files import remove_tree

ROOT = Path(__file__).resolve().parents[2]
LEVELS = 5_000


@pytest.fixture
def folder() -> Iterator[Path]:
    found = Path(tempfile.mkdtemp(prefix="slw-", dir="/tmp"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found, ignore_errors=True)


@contextlib.contextmanager
def few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def dig(top: Path, levels: int) -> None:
    """Folders in folders, each with a file and an empty sibling: their path is longer than any system call takes."""
    top.mkdir()
    at = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=at)
        os.mkdir("e", dir_fd=at)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)


def test_any_depth_with_few_descriptors(folder: Path) -> None:
    dig(folder / "top", LEVELS)
    with few_descriptors():
        remove_tree(folder / "top")
    assert not list(folder.iterdir())


def test_no_link_is_followed(folder: Path) -> None:
    (folder / "precious").mkdir()
    (folder / "precious" / "file").touch()
    (folder / "top" / "in").mkdir(parents=True)
    (folder / "top" / "link").symlink_to(folder / "precious")
    (folder / "top" / "in" / "link").symlink_to("../../precious")
    (folder / "top" / "dangling").symlink_to("nowhere")
    os.link(folder / "precious" / "file", folder / "top" / "hard")
    remove_tree(folder / "top")
    (folder / "link").symlink_to(folder / "precious")
    remove_tree(folder / "link")
    assert [path.name for path in folder.rglob("*")] == ["precious", "file"]


def test_what_is_not_there_is_fine_and_a_file_goes_too(folder: Path) -> None:
    remove_tree(folder / "nothing")
    remove_tree(folder / "nothing" / "at" / "all")
    (folder / "file").touch()
    remove_tree(folder / "file")
    os.mkfifo(folder / "pipe")
    remove_tree(folder / "pipe")
    assert not list(folder.iterdir())


def test_a_wide_folder(folder: Path) -> None:
    for number in range(3_000):
        (folder / "top" / f"{number}" / "in").mkdir(parents=True)
        (folder / "top" / f"{number}.txt").touch()
    remove_tree(folder / "top")
    assert not list(folder.iterdir())


SHUT = """
import os, sys
from pathlib import Path
from workspaces.runtime.local.files import remove_tree
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
top = Path(sys.argv[1]) / "top"
deep = top / Path(*["d"] * 70)
deep.mkdir(parents=True)
(deep / "file").touch()
for mode, path in ((0o000, deep), (0o300, deep.parent), (0o500, deep.parents[1]), (0o500, top)):
    path.chmod(mode)
remove_tree(top)
print(sorted(os.listdir(sys.argv[1])))
"""


def test_an_ordinary_user_deletes_folders_which_were_shut(folder: Path) -> None:
    folder.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", SHUT, str(folder)],
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[]\n", done.stderr


def test_somebody_who_swaps_folders_for_links_meanwhile_leads_it_nowhere(folder: Path) -> None:
    precious = folder / "precious"
    precious.mkdir()
    for number in range(50):
        (precious / f"{number}").touch()
    over = threading.Event()

    def swap() -> None:
        while not over.wait(0.0001):
            with contextlib.suppress(OSError):
                (folder / "top" / "d").rename(folder / "top" / "aside")
                (folder / "top" / "d").symlink_to(precious)

    with ThreadPoolExecutor(1) as pool:
        swapping = pool.submit(swap)
        try:
            for _ in range(30):
                shutil.copytree(folder / "precious", folder / "top" / "a" / "d", dirs_exist_ok=True)
                # The other one's link may stand there already.
                with contextlib.suppress(OSError):
                    (folder / "top" / "a").rename(folder / "top" / "d")
                # It may see a folder that is never empty, and say so: never may it delete what lies elsewhere.
                with contextlib.suppress(OSError):
                    remove_tree(folder / "top")
                shutil.rmtree(folder / "top", ignore_errors=True)
        finally:
            over.set()
        swapping.result()
    assert len(list(precious.iterdir())) == 50
