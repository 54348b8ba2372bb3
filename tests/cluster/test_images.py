"""Images come out the same from the same files, and hold what they were made from."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from tests.cluster import images


def layer_of(archive: Path) -> tarfile.TarFile:
    """The layer of an image, through its manifest."""
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        content = tar.extractfile(manifest[0]["Layers"][0])
        assert content
        return tarfile.open(fileobj=io.BytesIO(content.read()))


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_text("#!/bin/sh\n", encoding="utf-8")
    source.chmod(0o755)
    made: list[Path] = []
    for name in ("one.tar", "two.tar"):
        os.utime(source, (len(made), len(made)))
        files: dict[str, Path | bytes] = {"/usr/bin/tool": source, "/etc/motd": b"hello"}
        made.append(images.write_image(tmp_path / name, "test:1", images.from_files(files), User="1000"))
    assert made[0].read_bytes() == made[1].read_bytes()


def test_files_get_their_folders_and_modes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.touch(mode=0o700)
    members = images.from_files({"/usr/bin/program": program, "/usr/data": b"x"})
    with layer_of(images.write_image(tmp_path / "image.tar", "test:1", members)) as layer:
        modes = {info.name: (info.isdir(), info.mode) for info in layer}
    assert modes == {
        "usr": (True, 0o755),
        "usr/bin": (True, 0o755),
        "usr/bin/program": (False, 0o755),
        "usr/data": (False, 0o644),
    }


def test_a_folder_keeps_links_and_modes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "home").mkdir(parents=True, mode=0o700)
    (root / "home/file").write_text("content", encoding="utf-8")
    (root / "home/again").hardlink_to(root / "home/file")
    (root / "link").symlink_to("/home/file")
    os.mkfifo(root / "pipe")
    with layer_of(images.write_image(tmp_path / "image.tar", "test:1", images.from_folder(root))) as layer:
        found = {info.name: (info.type, info.linkname) for info in layer}
        assert layer.getmember("home").mode == 0o700
    assert found == {
        "home": (tarfile.DIRTYPE, ""),
        "home/again": (tarfile.REGTYPE, ""),
        "home/file": (tarfile.LNKTYPE, "home/again"),
        "link": (tarfile.SYMTYPE, "/home/file"),
    }


def test_the_config_describes_the_layer(tmp_path: Path) -> None:
    archive = images.write_image(tmp_path / "image.tar", "test:1", images.from_files({"/a": b"a"}), User="1000")
    with tarfile.open(archive) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        config = json.load(tar.extractfile(manifest["Config"]))  # type: ignore[arg-type]
    assert manifest["RepoTags"] == ["test:1"]
    assert config["config"] == {"User": "1000"}
    assert [f"{digest.removeprefix('sha256:')}.tar" for digest in config["rootfs"]["diff_ids"]] == manifest["Layers"]
