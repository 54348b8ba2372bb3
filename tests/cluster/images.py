"""Container images as archives that containerd loads, made without a builder.

Each has one layer; from the same files come the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy.images import build

PAUSE = "slipway.test/pause:1"
WORKSPACE = "slipway.test/workspace:1"
IDE = build.reference("ide")
SUITE = "bookworm"
PACKAGES = ("python3", "git", "ca-certificates", "bash", "procps")
# Not wanted in an image: caches, logs, manuals, translations, and devices, which a container gets from its runtime.
LEFT_OUT = (
    "var/cache/*",
    "var/lib/apt/lists/*",
    "var/log/*",
    "usr/share/doc/*",
    "usr/share/man/*",
    "usr/share/locale/*",
    "dev/*",
)

Member = tuple[tarfile.TarInfo, Path | bytes | None]
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def from_files(files: Mapping[str, Path | bytes]) -> Iterator[Member]:
    """Regular files by their path in the image, owned by root; what may be executed here may be executed there."""
    made: set[str] = set()
    for name, content in sorted(files.items()):
        path = Path(name.strip("/"))
        for parent in reversed(path.parents[:-1]):
            if parent.as_posix() not in made:
                made.add(parent.as_posix())
                yield _info(parent.as_posix(), tarfile.DIRTYPE, 0o755), None
        executable = isinstance(content, Path) and os.access(content, os.X_OK)
        yield _info(path.as_posix(), tarfile.REGTYPE, 0o755 if executable else 0o644), content


def from_folder(root: Path) -> Iterator[Member]:
    """All below a folder, with modes, owners and links; without sockets and devices, which an image cannot use."""
    first_names: dict[tuple[int, int], str] = {}
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        name = path.relative_to(root).as_posix()
        if stat.S_ISLNK(found.st_mode):
            info = _info(name, tarfile.SYMTYPE, 0o777, to=os.readlink(path))  # noqa: PTH115 - Unchanged, as text.
        elif stat.S_ISDIR(found.st_mode):
            info = _info(name, tarfile.DIRTYPE, stat.S_IMODE(found.st_mode))
        elif not stat.S_ISREG(found.st_mode):
            continue
        elif (first := first_names.setdefault((found.st_dev, found.st_ino), name)) != name:
            info = _info(name, tarfile.LNKTYPE, stat.S_IMODE(found.st_mode), to=first)
        else:
            info = _info(name, tarfile.REGTYPE, stat.S_IMODE(found.st_mode))
        info.uid, info.gid = found.st_uid, found.st_gid
        yield info, path if info.isreg() else None


def _info(name: str, kind: bytes, mode: int, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, to
    return info


def write_image(target: Path, name: str, members: Iterable[Member], **config: Any) -> Path:
    """Write an image as an archive of the form that `docker save` writes.

    Args:
        target: the archive; it is there completely or not at all.
        name: what pods call the image, with a tag.
        members: the content of its layer.
        config: of the image: Entrypoint, Env, User, WorkingDir.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as folder:
        layer, archive = Path(folder) / "layer.tar", Path(folder) / "image.tar"
        with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as tar:
            for info, content in members:
                _add(tar, info, content)
        with layer.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described = _description(digest, config)
        described_in = f"{hashlib.sha256(described).hexdigest()}.json"
        manifest = [{"Config": described_in, "RepoTags": [name], "Layers": [f"{digest}.tar"]}]
        parts: dict[str, Path | bytes] = {
            described_in: described,
            f"{digest}.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }
        with tarfile.open(archive, "w") as tar:
            for part, part_content in parts.items():
                _add(tar, _info(part, tarfile.REGTYPE, 0o644), part_content)
        archive.replace(target)
    return target


def _description(layer_digest: str, config: Mapping[str, Any]) -> bytes:
    machine = platform.machine()
    description = {
        "architecture": _ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    }
    return json.dumps(description, sort_keys=True).encode()


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, content: Path | bytes | None) -> None:
    if content is None:
        tar.addfile(info)
        return
    info.size = content.stat().st_size if isinstance(content, Path) else len(content)
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
        tar.addfile(info, file)


def pause(program: Path, target: Path) -> Path:
    """The image that holds a pod's namespaces."""
    return write_image(target, PAUSE, from_files({"/pause": program}), Entrypoint=["/pause"])


def workspace_archive(cache: Path) -> Path:
    """Where the workspace's image is, or will be."""
    wanted = json.dumps([SUITE, PACKAGES, LEFT_OUT])
    return cache / f"workspace-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}.tar"


def make_workspace(target: Path) -> Path:
    """A small Debian with git and Python, and `dev` (1000) as its user; about a minute, as root, by debootstrap."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as folder:
        root = Path(folder) / "root"
        debootstrap = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(root)]
        # In a mount namespace of its own: should it be killed, nothing stays mounted below the folder that goes away.
        made = subprocess.run(["unshare", "--mount", *debootstrap], stdout=subprocess.PIPE, text=True, check=False)
        if made.returncode:
            raise RuntimeError(f"debootstrap failed:\n{made.stdout[-2000:]}")
        subprocess.run(
            ["chroot", str(root), "useradd", "--create-home", "--shell", "/bin/bash", "--uid", "1000", "dev"],
            check=True,
        )
        for path in (path for pattern in LEFT_OUT for path in root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        environment = ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/home/dev"]
        config = {
            "Entrypoint": ["sleep", "infinity"],
            "Env": environment,
            "User": "1000:1000",
            "WorkingDir": "/home/dev",
        }
        return write_image(target, WORKSPACE, from_folder(root), **config)


def ide_archive(cache: Path, kubectl: Path) -> Path:
    """The real image `IDE`, as `deploy/images` has it: two minutes the first time, seconds after a change of the agent.

    Args:
        cache: where Slipway keeps what takes long to make; the image is in its folder `images`.
        kubectl: the program for workspaces that have none.
    """
    return build.ensure("ide", build.Options(base="debootstrap", cache=cache / "images", kubectl=kubectl))
