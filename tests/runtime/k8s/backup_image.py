"""An image with the backup program in it: the workspace's image, and the libraries of this machine's Python."""

from __future__ import annotations

import importlib.util
import sys
import tarfile
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import images, programs
from tests.cluster.images import Member
from tests.cluster.node import Node

IMAGE = "slipway.test/backup:1"
LIBRARY = "opt/slipway/lib"
PROGRAM = f'#!/bin/sh\nPYTHONPATH=/{LIBRARY} exec /usr/bin/python3 -B -m agent.backup "$@"\n'
_loaded: weakref.WeakSet[Node] = weakref.WeakSet()


def on(node: Node) -> str:
    """The image's name, once it is on the node."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the workspace's image has Python 3.11, and these libraries are built for another")
    if node not in _loaded:
        base = images.workspace_archive(programs.cache_folder())
        with tempfile.TemporaryDirectory() as folder:
            node.load_image(images.write_image(Path(folder) / "backup.tar", IMAGE, members(base), User="1000:1000"))
        _loaded.add(node)
    return IMAGE


def packages() -> dict[str, Path]:
    """The program and what it needs, by path in the image."""
    found = {}
    for name in ("agent", "backports.zstd", "urllib3"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{LIBRARY}/{name.replace('.', '/')}/{path.relative_to(folder)}"] = path
    return found


def members(base: Path) -> Iterator[Member]:
    """The workspace's image and the program in it: its Python is that of the machine's."""
    with tarfile.open(base) as archive:
        layer = next(info for info in archive if info.name.endswith(".tar"))
        with tarfile.open(fileobj=archive.extractfile(layer)) as tar:
            for info in tar:
                file = tar.extractfile(info) if info.isreg() else None
                yield info, file.read() if file is not None else None
    program = tarfile.TarInfo("opt/slipway/bin/backup")
    program.mode = 0o755
    yield from images.from_files(packages())
    yield program, PROGRAM.encode()
