"""The images, built by Buildah from their Containerfiles: what they are, and that their programs run anywhere."""

from __future__ import annotations

import hashlib
import json
import re
import runpy
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent import transport
from deploy.images import build, debian
from tests.cluster import images, programs
from tests.deploy.archives import Archive
from tests.support.waiting import eventually

pytestmark = [pytest.mark.node, pytest.mark.timeout(900)]

CACHE = programs.cache_folder().parent
OLDER = "bullseye"
PREFIX = "/opt/slipway"
# What an image may set for its own programs, and what would mislead another Python or another glibc.
MISLEADING = {
    "PYTHONHOME": "/nonexistent",
    "PYTHONPATH": "/nonexistent",
    "LD_LIBRARY_PATH": "/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu",
    "NODE_OPTIONS": "--max-old-space-size=512",
}


@pytest.fixture(scope="module")
def ide() -> Archive:
    return Archive(images.ide_archive(CACHE, programs.path("kubectl")))


@pytest.fixture(scope="module")
def tree(ide: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a cluster mounts at /opt/slipway."""
    target = tmp_path_factory.mktemp("ide")
    ide.unpack(target)
    return target


@pytest.fixture(scope="module")
def older() -> Path:
    """The files of a Debian whose glibc is older than ours, without Python, Node and git."""
    target = CACHE / "images" / OLDER
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as folder:
            root = Path(folder) / "root"
            debian.bootstrap(root, suite=OLDER)
            (root / "opt/slipway").mkdir()
            root.rename(target)
    return target


Places = Mapping[str, Path]


def inside(
    root: Path,
    *command: str,
    reads: Places | None = None,
    writes: Places | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[str]:
    """A command that sees `root` and these folders at these places, as an ordinary user, who is our own in disguise."""
    walls = ["bwrap", "--unshare-all", "--die-with-parent", "--uid", "1000", "--gid", "1000", "--clearenv"]
    walls += ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev"]
    for option, places in (("--ro-bind", reads or {}), ("--bind", writes or {})):
        for target, source in places.items():
            walls += [option, str(source), target]
    for name, value in (variables or {}).items():
        walls += ["--setenv", name, value]
    return [*walls, *command]


def output(command: Sequence[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_what_the_image_says_of_itself(ide: Archive) -> None:
    config = ide.config["config"]
    assert config["User"] == "1000:1000"
    assert config["Labels"]["org.opencontainers.image.title"] == "Slipway IDE"
    dates = {entry["created"] for entry in (ide.config, *ide.config["history"])}
    assert dates == {"2026-01-01T00:00:00Z"}


def test_the_same_input_gives_the_same_digest(tmp_path: Path) -> None:
    """Even when nothing is left of the first build."""
    with tempfile.TemporaryDirectory(dir=CACHE / "images", prefix="making-") as folder:
        options = build.Options(base="debootstrap", cache=Path(folder), fresh=True, kubectl=programs.path("kubectl"))
        one, two = tmp_path / "one.tar", tmp_path / "two.tar"
        assert build.build("ide", one, options) == build.build("ide", two, options)
    assert one.read_bytes() == two.read_bytes()


def test_python_and_node_run_on_an_older_debian(tree: Path, older: Path) -> None:
    reads = {PREFIX: tree}
    version = "import platform, ssl, asyncio, agent.main; print(platform.libc_ver()[1])"
    said = output(inside(older, "/opt/slipway/bin/python", "-I", "-c", version, reads=reads, variables=MISLEADING))
    theirs = output(inside(older, "/usr/bin/ldd", "--version")).splitlines()[0].split()[-1]
    assert said.strip() > theirs
    report = "console.log(process.report.getReport().header.glibcVersionRuntime, process.execPath)"
    node = output(inside(older, "/opt/slipway/bin/node", "-e", report, reads=reads, variables=MISLEADING))
    assert node.split() == [said.strip(), "/opt/slipway/bin/node"]


def test_what_they_start_finds_nothing_of_theirs_in_its_environment(tree: Path, older: Path) -> None:
    shown = "import subprocess; print(subprocess.run(['env'], capture_output=True, text=True).stdout)"
    # As pods have it; without a language Python chooses one for whom it starts.
    given = {"PATH": "/usr/bin", "LANG": "C.UTF-8"}
    command = inside(older, "/opt/slipway/bin/python", "-I", "-c", shown, reads={PREFIX: tree}, variables=given)
    assert set(output(command).split()) - {"PWD=/"} == {f"{name}={value}" for name, value in given.items()}


def test_byte_code_is_used_as_it_is(tree: Path, older: Path) -> None:
    """It is not compared with sources whose dates the image has changed, nor compiled anew at each start."""
    command = inside(older, "/opt/slipway/bin/python", "-I", "-v", "-c", "import agent.main", reads={PREFIX: tree})
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    assert "matches /opt/slipway/lib/python3" in said
    assert not re.search(r"# (wrote|could not create)", said)


def test_backup_starts_on_an_older_debian_and_says_what_it_can(tree: Path, older: Path) -> None:
    reads = {PREFIX: tree}
    said = output(inside(older, "/opt/slipway/bin/backup", "--help", reads=reads, variables=MISLEADING))
    assert said.startswith("usage: backup ")
    assert "{save,restore,forget}" in said


def test_the_image_itself_trusts_public_registries(tree: Path, tmp_path: Path) -> None:
    """Where a job runs in it, rather than in a workspace's image."""
    root = tmp_path / "root"
    shutil.copytree(tree, root, symlinks=True)
    for name in ("proc", "dev"):
        (root / name).mkdir()
    count = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    assert int(output(inside(root, "/opt/slipway/bin/python", "-I", "-c", count))) > 50


def test_kubectl_runs_where_there_is_none(tree: Path, older: Path) -> None:
    command = ("/opt/slipway/tools/bin/kubectl", "version", "--client", "--output", "json")
    said = json.loads(output(inside(older, *command, reads={PREFIX: tree}, variables={"HOME": "/tmp"})))
    assert said["clientVersion"]["platform"].startswith("linux/")
    # It is the only one there: whatever lies in this folder is in the PATH of all workspaces.
    assert [path.name for path in (tree / "tools/bin").iterdir()] == ["kubectl"]


@pytest.fixture(scope="module")
def assemble() -> Any:
    """The script, whose folder is no package."""
    return runpy.run_path(str(build.ROOT / "deploy/images/ide/assemble.py"))


def test_kubectl_is_taken_by_its_checksum_or_left_out(assemble: Any, tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.write_bytes(b"a program")
    digest = hashlib.sha256(b"a program").hexdigest()
    take = assemble["take_kubectl"]
    take(tmp_path / "one", digest, given)
    assert (tmp_path / "one/tools/bin/kubectl").read_bytes() == b"a program"
    take(tmp_path / "two", "none", given)
    assert not any((tmp_path / "two").iterdir())
    with pytest.raises(SystemExit, match="not the program"):
        take(tmp_path / "three", "0" * 64, given)
    with pytest.raises(SystemExit, match="known are v1"):
        take(tmp_path / "three", "v1.2.3", tmp_path / "nothing")


def test_a_release_that_is_not_what_it_was_is_refused(assemble: Any, tmp_path: Path) -> None:
    release, machines = next(iter(assemble["KUBECTL"].items()))
    for machine, _ in machines.values():
        program = tmp_path / release / "bin/linux" / machine / "kubectl"
        program.parent.mkdir(parents=True)
        program.write_bytes(b"another")
    with pytest.raises(SystemExit, match="not the program"):
        assemble["take_kubectl"](tmp_path / "tree", release, tmp_path / "nothing", tmp_path.as_uri())
    assert not any((tmp_path / "tree").iterdir())


def test_scanners_are_told_whose_packages_they_are(tree: Path) -> None:
    assert "ID=debian\n" in (tree / "etc/os-release").read_text(encoding="utf-8")
    assert {"ca-certificates", "libc6"} <= {path.name for path in (tree / "var/lib/dpkg/status.d").iterdir()}


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """What a workspace may write, by its place; sockets have short paths."""
    with tempfile.TemporaryDirectory(prefix="sl-") as run:
        found = {"/home": tmp_path / "home", "/tmp": tmp_path / "tmp", "/mnt": tmp_path / "mnt", "/run": Path(run)}
        for folder in found.values():
            folder.mkdir(exist_ok=True)
        yield found


def spec() -> dict[str, Any]:
    return {
        "workspace": {"id": "6f1f7f0e-3a0c-4c8e-9a54-0f3f2f1d9b11", "slug": "demo"},
        "run": 1,
        "repository": {"clone_url": "http://127.0.0.1:1/team/app.git", "full_name": "team/app", "ref": "HEAD"},
        "identity": {"name": "Olga", "email": "olga@example.com"},
        "urls": {"workspace": "http://demo.example.com", "port": "http://{{port}}-demo.example.com"},
    }


def test_the_editor_opens_on_an_older_debian_without_git(tree: Path, older: Path, folders: dict[str, Path]) -> None:
    (folders["/mnt"] / "spec.json").write_text(json.dumps(spec()), encoding="utf-8")
    variables = {
        **MISLEADING,
        "PATH": "/usr/bin:/bin",
        "HOME": "/home",
        "SLIPWAY_AGENT_SPEC": "/mnt/spec.json",
        "SLIPWAY_RUN_DIR": "/run",
        "SLIPWAY_STATE_DIR": "/home/.slipway",
        "SLIPWAY_NODE": "/opt/slipway/bin/node",
        "SLIPWAY_IDE": "/opt/slipway/ide/out/node/entry.js",
    }
    command = inside(older, "/opt/slipway/bin/agent", reads={PREFIX: tree}, writes=folders, variables=variables)
    socket = folders["/run"] / "ide.sock"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout
            eventually(socket.exists, timeout=60, what="the editor listens")
            assert transport.get_status(f"unix:{socket}", "/?folder=/home", timeout=60) == 200
            said = next(line for line in agent.stdout if "git_missing" in line)
        finally:
            agent.terminate()
    assert "the workspace's image has no git" in said


def test_the_copy_is_complete_and_may_be_repeated(tree: Path, tmp_path: Path) -> None:
    root, target = tmp_path / "root", tmp_path / "target"
    target.mkdir()
    # The image as its own container sees it, with the places at which a runtime mounts.
    shutil.copytree(tree, root, symlinks=True)
    for name in ("proc", "dev", "programs"):
        (root / name).mkdir()
    command = inside(root, "/opt/slipway/bin/install", "/programs", writes={"/programs": target})
    output(command)
    expected = listing(tree)
    assert {name: kind for name, kind in listing(target).items() if name != "complete"} == {
        name: kind for name, kind in expected.items() if not name.startswith(("opt/", "etc/", "usr/"))
    }
    (target / "complete").unlink()
    (target / "bin/half").write_text("x", encoding="utf-8")
    (target / "ide/out/node/entry.js").unlink()
    output(command)
    assert not (target / "bin/half").exists()
    assert (target / "ide/out/node/entry.js").exists()
    before = (target / "bin/node").stat().st_ino
    output(command)
    assert (target / "bin/node").stat().st_ino == before, "a finished copy is left alone"


def listing(root: Path) -> dict[str, tuple[bool, int, int]]:
    """Each file below: whether it is a link, its rights, its size."""
    return {
        str(path.relative_to(root)): (path.is_symlink(), path.lstat().st_mode & 0o777, path.lstat().st_size)
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }
