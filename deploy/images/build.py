"""Builds the images with Buildah: `python -m deploy.images.build [NAME ...]`.

The Containerfiles are the whole recipe: BuildKit and Buildah build them without this. What is added here: one date for
everything, so that the same input gives the same digest; a base made by debootstrap where no registry can be reached;
an archive (OCI image layout) for each image, under the digest of what went into it, and its list of contents (SPDX)
beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.images import debian

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("ide", "workspace", "platform")
PREFIX = "slipway.dev"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
SYFT = "v1.38.0"
_KEPT = 4
DATE = 1767225600
"""Seconds since 1970 that every file and image is dated with; `SOURCE_DATE_EPOCH` says another."""

# What each image is made from, beside its own folder.
_SOURCES = {
    "ide": ("requirements.txt", "platform/config/ide.py", "platform/config/log_writer.js", "agent"),
    "workspace": (),
    "platform": (
        *("requirements.txt", "manage.py", "platform", "accounts", "workspaces", "gateway"),
        *("templates", "static"),
    ),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How to build.

    Attributes:
        base: reference of the image to build on; "debootstrap" makes one here; empty: what the Containerfile pins.
        cache: folder of Buildah's storage and of the archives.
        fresh: use nothing that an earlier build has left.
        kubectl: a program to put into the IDE's image; None: what its Containerfile pins.
    """

    base: str = ""
    cache: Path = Path.home() / ".cache/slipway/images"
    fresh: bool = False
    kubectl: Path | None = None


def reference(name: str) -> str:
    """What the image of this name is called. Not `latest`: a cluster looks for that anew each time."""
    return f"{PREFIX}/{name}:built"


def key(name: str, options: Options) -> str:
    """Digest over everything that goes into an image, but for what registries answer."""
    given = " ".join(_arguments(name, options)[:2])
    digest = hashlib.sha256(f"{options.base} {given} {_date()} {Path(__file__).read_text()}".encode())
    if options.base == "debootstrap":
        digest.update(Path(debian.__file__).read_bytes())
    for source in (*_SOURCES[name], f"deploy/images/{name}", ".containerignore"):
        for path in _files(ROOT / source):
            digest.update(f"{path.relative_to(ROOT)} {path.stat().st_mode & 0o111}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _arguments(name: str, options: Options) -> list[str]:
    """What Buildah is told beside the base. A secret is not part of what it remembers a step by; the digest is."""
    if name != "ide" or options.kubectl is None:
        return []
    with options.kubectl.open("rb") as program:
        digest = hashlib.file_digest(program, "sha256").hexdigest()
    return ["--build-arg", f"KUBECTL={digest}", "--secret", f"id=kubectl,src={options.kubectl}"]


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    return sorted(path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def archive(name: str, options: Options) -> Path:
    """Where an image is, or will be."""
    return options.cache / f"{name}-{key(name, options)}.tar"


def ensure(name: str, options: Options, say: Callable[[str], object] = lambda _: None) -> Path:
    """The archive of an image, built unless it is there. One build at a time; others wait.

    Raises:
        RuntimeError: Buildah failed; the text has the end of what it said.
    """
    target = archive(name, options)
    if not target.exists():
        with _alone(options.cache):
            if not target.exists():
                build(name, target, options, say)
                _forget_older(name, options.cache)
    return target


def _forget_older(name: str, cache: Path) -> None:
    """Keep the last few archives: several checkouts may share the folder."""
    for old in sorted(cache.glob(f"{name}-*.tar"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink()
        old.with_suffix(".spdx.json").unlink(missing_ok=True)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build(name: str, target: Path, options: Options, say: Callable[[str], object] = lambda _: None) -> str:
    """Build an image into an archive, which is there completely or not at all. Returns the digest of its manifest.

    Raises:
        RuntimeError: Buildah failed; the text has the end of what it said.
    """
    say(f"{name}: building …")
    command = ["bud", "--layers", "--isolation", "chroot", "--timestamp", str(_date()), "--format", "oci"]
    command += ["--file", str(ROOT / "deploy/images" / name / "Containerfile"), "--tag", reference(name)]
    if options.base:
        command += ["--build-arg", f"BASE={_base(options)}"]
    if options.fresh:
        command += ["--no-cache"]
    if AUTHORITIES.exists():
        command += ["--secret", f"id=authorities,src={AUTHORITIES}"]
    _buildah(options, *command, *_arguments(name, options), str(ROOT))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as folder:
        layout = Path(folder) / "layout"
        _buildah(options, "push", "--quiet", reference(name), f"oci:{layout}:built")
        digest = _name_it(layout / "index.json", reference(name))
        draft = Path(folder) / "image.tar"
        _pack(layout, draft)
        draft.replace(target)
    say(f"{name}: {digest}, {target.stat().st_size / 1e6:.0f} MB, in {target}")
    return digest


def _date() -> int:
    return int(os.environ.get("SOURCE_DATE_EPOCH", DATE))


def _name_it(index: Path, name: str) -> str:
    """Say in the layout's index what the image is called, as containerd and Docker read it; returns its digest."""
    document = json.loads(index.read_bytes())
    (manifest,) = document["manifests"]
    manifest["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "built"}
    index.write_text(json.dumps(document, sort_keys=True), encoding="utf-8")
    return str(manifest["digest"])


def _pack(layout: Path, target: Path) -> None:
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(layout.rglob("*")):
            info = tarfile.TarInfo(path.relative_to(layout).as_posix())
            info.mode, info.mtime = 0o755 if path.is_dir() else 0o644, _date()
            info.type = tarfile.DIRTYPE if path.is_dir() else tarfile.REGTYPE
            info.size = 0 if path.is_dir() else path.stat().st_size
            with io.BytesIO() if path.is_dir() else path.open("rb") as content:
                tar.addfile(info, content)


def _base(options: Options) -> str:
    """The reference of the base; made here where that is asked for."""
    if options.base != "debootstrap":
        return options.base
    name = f"localhost/debian:{hashlib.sha256(Path(debian.__file__).read_bytes()).hexdigest()[:12]}"
    if subprocess.run([*_command(options), "inspect", name], capture_output=True, check=False).returncode:
        with tempfile.TemporaryDirectory(dir=options.cache, prefix="making-") as folder:
            root = Path(folder) / "root"
            debian.bootstrap(root)
            debian.strip(root)
            container = _buildah(options, "from", "scratch").strip()
            _buildah(options, "add", "--quiet", container, f"{root}/", "/")
            _buildah(options, "commit", "--quiet", "--rm", "--timestamp", str(_date()), container, name)
    return name


def _command(options: Options) -> list[str]:
    # A storage of its own: nothing of the machine's other containers is seen or changed.
    return ["buildah", "--root", str(options.cache / "storage"), "--runroot", str(options.cache / "running")]


def _buildah(options: Options, *arguments: str) -> str:
    done = subprocess.run([*_command(options), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"buildah {arguments[0]} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


def contents(image: Path) -> Path:
    """The list of an image's contents (SPDX, as JSON), beside its archive; by syft, which Go brings where need be."""
    target = image.with_suffix(".spdx.json")
    if not target.exists():
        draft = target.with_suffix(".new")
        program = ["syft"] if shutil.which("syft") else ["go", "run", f"github.com/anchore/syft/cmd/syft@{SYFT}"]
        subprocess.run(
            [*program, "scan", "--quiet", f"oci-archive:{image}", "--output", f"spdx-json={draft}"], check=True
        )
        draft.replace(target)
    return target


def missing() -> str | None:
    """What this machine lacks, as one line that says what to do; None where nothing is missing."""
    if os.geteuid() != 0:
        return "run it as root"
    absent = [program for program in ("buildah", "debootstrap") if not shutil.which(program)]
    return f"apt-get install {' '.join(absent)}" if absent else None


def main() -> None:
    """Build what is named, or everything."""
    parser = argparse.ArgumentParser(description="Build Slipway's images with Buildah.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)}; all of them when none is named")
    parser.add_argument("--base", default="", help="image to build on; `debootstrap` makes a Debian here")
    parser.add_argument("--fresh", action="store_true", help="use nothing that an earlier build has left")
    parser.add_argument("--kubectl", type=Path, help="put this kubectl into the IDE's image, and fetch none")
    parser.add_argument("--contents", action="store_true", help="list what is in it, too (SPDX, by syft)")
    given = parser.parse_args()
    if obstacle := missing():
        sys.exit(obstacle)
    options = Options(base=given.base, fresh=given.fresh, kubectl=given.kubectl)
    for name in given.names or NAMES:
        image = ensure(name, options, lambda line: sys.stderr.write(f"{line}\n"))
        sys.stdout.write(f"{image}\n")
        if given.contents:
            sys.stdout.write(f"{contents(image)}\n")


if __name__ == "__main__":
    main()
