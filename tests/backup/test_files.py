"""What comes back of a volume, and what is said where that cannot be."""

from __future__ import annotations

import io
import json
import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from agent.backup import artifact
from agent.backup.artifact import About, Part
from agent.backup.packing import Count
from agent.backup.parts import Cutter
from agent.backup.registry import Repository
from tests.backup.conftest import Jobs, environment
from tests.support.registry import Registry
from tests.support.waiting import eventually

pytestmark = [pytest.mark.registry]
MEGABYTE = 2**20


def seen(root: Path) -> dict[bytes, tuple[object, ...]]:
    """All that a backup keeps, entry by entry."""
    found: dict[bytes, tuple[object, ...]] = {}
    first: dict[int, bytes] = {}
    for path in sorted(Path(os.fsdecode(root)).rglob("*")):
        name, info = os.fsencode(path.relative_to(root)), path.lstat()
        if name == b".slipway-restore":
            continue
        content: object = None
        if stat.S_ISREG(info.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(info.st_mode):
            content = path.readlink()
        same = first.setdefault(info.st_ino, name) if not stat.S_ISDIR(info.st_mode) else name
        found[name] = (stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_mtime_ns, content, same)
    return found


def fill(root: Path) -> None:
    """A home as it may be."""
    (root / "home/.config/deep/er").mkdir(parents=True)
    (root / "state").mkdir(mode=0o700)
    home = root / "home"
    (home / "program").write_text("#!/bin/sh\n")
    (home / "program").chmod(0o755)
    (home / "secret").write_text("x")
    (home / "secret").chmod(0o400)
    (home / "set").write_text("")
    (home / "set").chmod(0o6711)
    os.link(home / "program", home / ".config/deep/er/same")
    (home / "python").symlink_to("/usr/bin/python3")
    (home / "up").symlink_to("../../../etc/passwd")
    (home / "nowhere").symlink_to("nothing")
    (home / "bad link").symlink_to(os.fsdecode(b"\xff\xfe"))
    for name in (b"new\nline", b"\xff\xfenot utf-8", " ä 漢 \N{GRINNING FACE}".encode(), b"-rf", b"x" * 255, b"back\\"):
        with Path(os.fsdecode(os.fsencode(home) + b"/" + name)).open("wb") as file:
            file.write(name)
    (home / "empty").touch()
    os.utime(home / "empty", ns=(1, 1_234_567_890_123_456_789))
    os.utime(home / "nowhere", ns=(1, 987_654_321), follow_symlinks=False)
    (home / "old").touch()
    os.utime(home / "old", ns=(0, 0))
    (home / "read-only").mkdir()
    (home / "read-only/file").write_text("y")
    (home / "read-only").chmod(0o555)
    os.utime(home / "read-only", ns=(5, 5_000_000_007))
    os.utime(home / ".config", ns=(5, 6_000_000_007))


def test_everything_comes_back_as_it_was(jobs: Jobs) -> None:
    fill(jobs.volume)
    os.mkfifo(jobs.volume / "home/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(jobs.volume)  # A socket's path may not be long.
        listener.bind("socket")
    (jobs.volume / "lost+found").mkdir(mode=0o000)
    done = jobs.save()
    assert (done.code, done.result["state"], done.result["skipped"]) == (0, "done", 2), done.log
    back = jobs.restore(done.result["reference"], jobs.folder / "back")
    assert back.code == 0, back.log
    wanted = seen(jobs.volume)
    for name in (b"home/pipe", b"socket", b"lost+found"):
        del wanted[name]
    assert seen(jobs.folder / "back") == wanted
    assert back.result["digest"] == done.result["digest"]
    assert back.result["entries"] == len(wanted)


def test_a_tree_deeper_than_any_path(jobs: Jobs) -> None:
    depth = 3000
    make = "import os\nfor _ in range(3000): os.mkdir('folder'); os.chdir('folder')\nopen('deep', 'w').write('!')"
    subprocess.run(["python3", "-c", make], cwd=jobs.volume, check=True)
    done = jobs.save()
    assert done.result["entries"] == depth + 1, done.log
    assert jobs.restore(done.result["reference"], jobs.folder / "back").code == 0
    look = "import os\nfor _ in range(3000): os.chdir('folder')\nassert open('deep').read() == '!'"
    subprocess.run(["python3", "-c", look], cwd=jobs.folder / "back", check=True)
    for name in ("volume", "back"):  # Python's own way to remove a tree does not come so deep.
        subprocess.run(["rm", "-rf", str(jobs.folder / name)], check=True)


def test_large_files_take_little_memory_and_holes_stay_holes(jobs: Jobs) -> None:
    with (jobs.volume / "dense").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MEGABYTE))
    with (jobs.volume / "sparse").open("wb") as file:
        file.truncate(2 * 1024 * MEGABYTE)
        file.seek(1000 * MEGABYTE)
        file.write(b"island")
    done = jobs.save()
    assert done.code == 0, done.log
    assert done.result["bytes"] == 2248 * MEGABYTE
    assert done.memory < 200_000, f"{done.memory} kB"
    back = jobs.restore(done.result["reference"], jobs.folder / "back")
    assert back.code == 0, back.log
    assert back.memory < 200_000, f"{back.memory} kB"
    assert (jobs.folder / "back/sparse").stat().st_blocks * 512 < MEGABYTE
    subprocess.run(["cmp", jobs.volume / "dense", jobs.folder / "back/dense"], check=True)
    subprocess.run(["cmp", jobs.volume / "sparse", jobs.folder / "back/sparse"], check=True)


def test_any_tools_bring_it_back(jobs: Jobs, store: Registry) -> None:
    fill(jobs.volume)
    (jobs.volume / "big").write_bytes(os.urandom(3 * MEGABYTE))
    done = jobs.save("--part-bytes", str(MEGABYTE))
    repository = Repository(done.result["reference"].partition("@")[0], insecure=True)
    backup = artifact.find(repository, done.result["digest"])
    assert backup is not None
    assert len(backup.parts) > 1
    blobs = b"".join(store.blob(part.digest).read_bytes() for part in backup.parts)
    plain = jobs.folder / "plain"
    plain.mkdir()
    command = ["tar", "--extract", "--zstd", "--preserve-permissions"]
    subprocess.run(command, input=blobs, cwd=plain, check=True)
    assert seen(plain) == seen(jobs.volume)


def test_a_file_that_cannot_be_read_is_a_failure_and_no_gap(jobs: Jobs) -> None:
    (jobs.volume / "good").write_text("x")
    (jobs.volume / "shut").write_text("x")
    (jobs.volume / "shut").chmod(0)
    jobs.folder.chmod(0o777)
    for above in list(jobs.folder.parents)[:3]:
        above.chmod(0o755)
    # Root may read everything; a workspace's user may not.
    command = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", *jobs.command(*jobs.saving())]
    (jobs.volume / "good").chmod(0o644)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    result = json.loads((jobs.folder / "result.json").read_text())
    assert (done.returncode, result["code"]) == (1, "volume_unreadable")
    assert "“shut”" in result["message"]


@pytest.mark.parametrize("size", [MEGABYTE, 60 * MEGABYTE, 61 * MEGABYTE], ids=["shorter", "rewritten", "longer"])
def test_a_file_that_changes_meanwhile_is_a_failure(jobs: Jobs, size: int) -> None:
    with (jobs.volume / "big").open("wb") as file:
        for _ in range(60):
            file.write(os.urandom(MEGABYTE))
    command = jobs.command(*jobs.saving("--part-bytes", str(MEGABYTE)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        assert "part_stored" in process.stdout.readline()
        with (jobs.volume / "big").open("r+b") as file:
            file.write(b"changed")
            file.truncate(size)
        process.stdout.read()
    result = json.loads((jobs.folder / "result.json").read_text())
    assert (result["code"], result["temporary"]) == ("volume_changed", True)


def test_other_files_are_never_written_over(jobs: Jobs) -> None:
    fill(jobs.volume)
    done = jobs.save()
    back = jobs.folder / "back"
    back.mkdir()
    (back / "mine").write_text("mine")
    failed = jobs.restore(done.result["reference"], back)
    assert (failed.code, failed.result["code"]) == (1, "volume_not_empty")
    assert [path.name for path in back.iterdir()] == ["mine"]


def test_a_restore_that_is_done_stays_done_and_keeps_what_came_after(jobs: Jobs) -> None:
    fill(jobs.volume)
    done = jobs.save()
    back = jobs.folder / "back"
    jobs.restore(done.result["reference"], back)
    (back / "home/later").write_text("later")
    assert jobs.restore(done.result["reference"], back).code == 0
    assert (back / "home/later").read_text() == "later"
    (jobs.volume / "home/more").write_text("more")
    second = jobs.save(key="two")
    assert jobs.restore(second.result["reference"], back).result["code"] == "volume_not_empty"


def test_a_restore_that_was_killed_is_begun_again(jobs: Jobs) -> None:
    fill(jobs.volume)
    with (jobs.volume / "zz").open("wb") as file:
        for _ in range(100):
            file.write(os.urandom(MEGABYTE))
    done = jobs.save()
    back = jobs.folder / "back"
    back.mkdir()
    command = jobs.command("restore", "--reference", done.result["reference"], "--root", str(back))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment()) as process:
        eventually(lambda: (back / "zz").exists(), every=0.001)
        process.kill()
    assert json.loads((back / ".slipway-restore").read_text())["done"] is False
    (back / "home/half").mkdir(mode=0o000)
    assert jobs.restore(done.result["reference"], back).code == 0
    assert seen(back) == seen(jobs.volume)


def test_a_disk_that_is_too_small_is_told(jobs: Jobs) -> None:
    (jobs.volume / "big").write_bytes(os.urandom(4 * MEGABYTE))
    done = jobs.save()
    back = jobs.folder / "back"
    back.mkdir()
    # In a mount namespace of its own, where the folder is a disk of 1 MiB.
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    command = jobs.command("restore", "--reference", done.result["reference"], "--root", str(back))
    small = ["unshare", "--mount", "sh", "-c", mount, str(back), *command]
    subprocess.run(small, capture_output=True, check=False, env=environment())
    assert json.loads((jobs.folder / "result.json").read_text())["code"] == "disk_full"


def crafted(host: str, members: list[tarfile.TarInfo], **changes: bytes) -> str:
    """The reference of a backup that holds what nobody packed."""
    repository = Repository(f"{host}/backups/demo", insecure=True)
    parts: list[Part] = []
    cutter = Cutter(lambda content: parts.append(Part(repository.upload(content), len(content))))
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    cutter.write(archive.getvalue() + changes.get("behind", b""))
    cutter.end()
    count = Count(len(members), sum(member.size for member in members))
    backup = artifact.publish(repository, About("demo", "crafted", "2026-11-24T10:00:00Z"), count, parts)
    return f"{repository.name}@{backup.digest}"


def member(name: str, kind: bytes = tarfile.REGTYPE, to: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, to, 0o755
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("../evil")],
        [member("/evil")],
        [member("a/../../evil")],
        [member("./evil")],
        [member("a", tarfile.SYMTYPE, ".."), member("a/evil")],
        [member("a", tarfile.SYMTYPE, "/"), member("a/tmp/evil")],
        [member("a", tarfile.SYMTYPE, "../evil"), member("a")],
        [member("a", tarfile.LNKTYPE, "../outside")],
        [member("a", tarfile.LNKTYPE, "/etc/passwd")],
        [member("d", tarfile.SYMTYPE, ".."), member("a", tarfile.LNKTYPE, "d/outside")],
        [member("a"), member("a")],
        [member("a", tarfile.CHRTYPE)],
        [member("a", tarfile.FIFOTYPE)],
        [member("a/b")],
        [member(".slipway-restore")],
        [member("lost+found/x")],
    ],
    ids=lambda members: " ".join(f"{info.name}>{info.linkname}" if info.linkname else info.name for info in members),
)
def test_nothing_reaches_outside(jobs: Jobs, members: list[tarfile.TarInfo]) -> None:
    (jobs.folder / "outside").write_text("outside")
    before = {path.name for path in jobs.folder.iterdir()}
    failed = jobs.restore(crafted(jobs.host, members), jobs.folder / "back")
    assert (failed.code, failed.result["code"]) == (1, "backup_damaged"), failed.log
    assert {path.name for path in jobs.folder.iterdir()} - before == {"back", "result.json", "memory"}
    assert (jobs.folder / "outside").stat().st_nlink == 1
    assert (jobs.folder / "outside").read_text() == "outside"


def test_what_lies_behind_the_end_is_not_overlooked(jobs: Jobs) -> None:
    reference = crafted(jobs.host, [member("a")], behind=b"x" * 3 * MEGABYTE)
    assert jobs.restore(reference, jobs.folder / "back").result["code"] == "backup_damaged"
