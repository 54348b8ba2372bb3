"""What code in a workspace cannot reach, asked from inside."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.rigs import Rig, local_rig
from workspaces.runtime.port import Presence

pytestmark = pytest.mark.bwrap


@pytest.fixture
def rig() -> Iterator[Rig]:
    with local_rig("bwrap") as found:
        yield found


def said(rig: Rig, *commands: str, name: str = "demo") -> list[str]:
    rig.start(name, commands=list(commands))
    return [one["out"] + one["err"] for one in rig.said(name) if "command" in one]


def test_there_is_no_warning(rig: Rig) -> None:
    assert rig.start().warnings == ()


def test_other_workspaces_and_the_platforms_files_are_not_there(rig: Rig) -> None:
    rig.start("other", commands=["echo theirs > $HOME/secret"])
    key = rig.root / "var" / "secret.key"
    key.write_text("platform")
    seen = said(
        rig,
        f"cat {rig.root}/var/workspaces/other/home/secret",
        f"cat {key}",
        f"ls {rig.root}",
        "find / -xdev -name secret.key 2>/dev/null",
        f"ls -A {Path(__file__).resolve().parents[2]}",
        "ls -A /root /var /home",
    )
    assert "No such file" in seen[0]
    assert "No such file" in seen[1]
    assert "No such file" in seen[2]
    assert seen[3] == ""
    assert set(seen[4].split()) <= {".venv"} or "No such file" in seen[4]
    assert "workspaces" not in seen[5]


def test_other_processes_are_not_there(rig: Rig) -> None:
    rig.start("other")
    numbers, refused = said(rig, "ls /proc | grep -E '^[0-9]+$' | wc -l", f"kill -9 {os.getpid()}")
    assert int(numbers) < 10
    assert "No such process" in refused


def test_killing_all_it_can_ends_only_itself(rig: Rig) -> None:
    rig.start("other")
    rig.start(behaviour="exits", commands=["kill -9 -1"])
    assert rig.wait_for(Presence.EXITED).exit_code == -9
    assert rig.runtime.observe("other").presence is Presence.RUNNING


def test_it_is_nobody_special_and_cannot_become_so(rig: Rig) -> None:
    identity, name, capabilities, root, mount = said(
        rig,
        "id -u",
        "id -un; hostname",
        "grep -E 'CapEff|NoNewPrivs' /proc/self/status",
        "touch /etc/x /usr/x /x",
        "mount -t tmpfs x /tmp",
    )
    assert int(identity) != 0
    assert name.split() == ["dev", "demo"]
    assert capabilities.split() == ["CapEff:", "0000000000000000", "NoNewPrivs:", "1"]
    assert root.count("Read-only") + root.count("Permission denied") == 3
    assert mount


def test_temporary_folders_are_its_own_and_writable(rig: Rig) -> None:
    marker = Path("/tmp") / f"{rig.root.name}-marker"
    marker.touch()
    try:
        listing, writing, terminal = said(
            rig, "ls -A /tmp /dev/shm", "touch /tmp/a /var/tmp/b /dev/shm/c", "python3 -c 'import os; os.openpty()'"
        )
    finally:
        marker.unlink()
    assert marker.name not in listing
    assert (writing, terminal) == ("", "")


def test_the_platforms_socket_is_reached_and_nothing_else_of_its_folder_changed(rig: Rig) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        path = rig.root / "platform" / "platform.sock"
        server.bind(str(path))
        path.chmod(0o666)
        server.listen()
        connect = "import os, socket; socket.socket(socket.AF_UNIX).connect(os.environ['SLIPWAY_PLATFORM'][5:])"
        reached, removed = said(rig, f'/usr/bin/python3 -c "{connect}" && echo in', "rm -f /run/platform/platform.sock")
    assert reached == "in\n"
    assert "Read-only" in removed or "denied" in removed
    assert path.exists()


def test_the_log_cannot_be_emptied_from_inside(rig: Rig) -> None:
    (failed,) = said(rig, "echo x > /proc/$PPID/fd/1")
    assert "denied" in failed.lower() or "cannot" in failed.lower()


def test_without_network_only_its_own_loopback_is_left() -> None:
    with local_rig("bwrap", network="none") as rig:
        assert [line.split(":")[0].strip() for line in said(rig, "tail -n +3 /proc/net/dev")[0].splitlines()] == ["lo"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands out user ids")
def test_each_workspace_has_a_user_id_of_its_own_and_keeps_it() -> None:
    with local_rig("bwrap", uid_base=70_000, uid_count=3) as rig:
        first = {name: said(rig, "id -u", name=name)[0] for name in ("one", "two", "three")}
        assert len(set(first.values())) == 3
        rig.destroy("one")
        rig.start("one", run=2, commands=["id -u"])
        assert rig.said("one")[0]["out"] == first["one"]
        with pytest.raises(Exception, match="user id"):
            rig.runtime.ensure_volume("four")
