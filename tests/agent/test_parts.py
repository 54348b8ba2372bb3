"""The small parts that decide: progress, errors, lines, the log, settings, listeners, status, relays."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import git_errors, listeners, proctable, settings
from agent.activity import Activity, terminal_number
from agent.board import Board
from agent.git import parse_progress
from agent.git_config import quote
from agent.gitstatus import parse_status
from agent.lines import LineSplitter
from agent.logs import LINE_LIMIT, Log
from agent.ports import Relay
from agent.proctable import Proc
from agent.relay import Side, break_off
from agent.spec import valid_ref
from tests.support.waiting import eventually_async


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Receiving objects:  50% (1/2), 1.00 MiB | 2.00 MiB/s", 0.45),
        ("remote: Counting objects: 100% (9/9)", 0.05),
        ("Updating files: 100% (9/9), done.", 1.0),
        ("From http://example.com/x", None),
        ("Filtering content:  50% (1/2)", None),
    ],
)
def test_progress(text: str, value: float | None) -> None:
    assert parse_progress(text) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("fatal: write error: No space left on device\nfatal: early EOF", "disk_full"),
        ("fatal: could not read Username for 'https://x': terminal prompts disabled", "repository_private"),
        ("git@github.com: Permission denied (publickey).", "repository_private"),
        ("remote: Repository not found.\nfatal: repository 'https://x/' not found", "repository_not_found"),
        ("fatal: couldn't find remote ref refs/heads/x", "branch_not_found"),
        ("fatal: remote error: upload-pack: not our ref 1111", "commit_not_found"),
        ("fatal: unable to access 'x': Could not resolve host: x", "network_unreachable"),
        ("error: RPC failed; curl 28 Operation too slow. Less than 1 bytes/sec", "clone_stalled"),
        ("fatal: transport 'ext' not allowed", "protocol_not_allowed"),
        ("fatal: something new", "clone_failed"),
    ],
)
def test_what_git_says(text: str, code: str) -> None:
    problem = git_errors.classify(text.splitlines(), name="a/b", ref="refs/heads/x")
    assert problem.code == code
    assert problem.message
    assert problem.next_step
    assert problem.temporary == (code in {"network_unreachable", "clone_stalled"})


def test_a_transfer_that_was_ended_has_stalled() -> None:
    lines = ["error: RPC failed; curl 18 transfer closed", "fetch-pack: unexpected disconnect", "fatal: early EOF"]
    assert git_errors.classify(lines, name="a/b", ref="HEAD", stalled=True).code == "clone_stalled"


@pytest.mark.parametrize("name", ["", "-x", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "@", "a@{b"])
def test_refs_that_git_refuses(name: str) -> None:
    assert not valid_ref(name)


@pytest.mark.parametrize("name", ["main", "feature/größe-🐎", "v1.0", "a@b", "user's"])
def test_refs_that_git_accepts(name: str) -> None:
    assert valid_ref(name)


def test_lines_at_any_cut() -> None:
    data = "eins\r\nzwei\rdrei\n\nvier ü\rfünf".encode()
    for cut in range(len(data) + 1):
        lines: list[str] = []
        transient: list[str] = []
        splitter = LineSplitter(lines.append, transient.append)
        splitter.feed(data[:cut])
        splitter.feed(data[cut:])
        splitter.close()
        assert lines == ["eins", "drei", "", "fünf"]
        assert transient == ["zwei", "vier ü"]


def test_log_is_bounded_in_every_way(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log(file.fileno(), limit=100_000)
        log.write("ide", "\x00" * 9_000, exit_code=3)
        log.write("ide", "ü" * 9_000)
        for _ in range(100):
            log.write("ide", "x" * 3_000)
    raw = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    records = [json.loads(line) for line in raw]
    assert max(len(line) for line in raw) <= LINE_LIMIT
    assert "".join(record["text"] for record in records).startswith("\x00" * 9_000 + "ü" * 9_000)
    assert [record.get("event") for record in records].count("log_cut") == 1
    assert records[-1]["event"] == "log_cut"
    assert set(records[0]) == {"t", "source", "level", "text", "exit_code"}


@pytest.mark.parametrize(
    ("current", "wanted", "applied", "merged"),
    [
        ({}, {"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
        ({"a": 9}, {"a": 2}, {"a": 1}, {"a": 9}),
        ({"a": 1, "mine": 3}, {}, {"a": 1}, {"mine": 3}),
        ({"mine": 3}, {"mine": 4}, {}, {"mine": 3}),
        ({}, {"a": 1}, {"a": 1}, {}),
    ],
)
def test_machine_settings(
    current: dict[str, Any], wanted: dict[str, Any], applied: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert settings.merge(current, wanted, applied) == merged


def test_settings_on_disk(tmp_path: Path) -> None:
    settings.write_preset(tmp_path)
    path = tmp_path / "User" / "settings.json"
    path.write_text("{}")
    settings.write_preset(tmp_path)
    assert path.read_text() == "{}"
    assert settings.apply_machine(tmp_path, {"a": 1}, {"FOO": "x"})
    machine = tmp_path / "Machine" / "settings.json"
    assert json.loads(machine.read_text()) == {"a": 1, settings.TERMINAL_ENV: {"FOO": "x"}}
    machine.write_text('{\n  // mine\n  "half": "\\ud800",\n  "a": 1,\n}')
    assert settings.apply_machine(tmp_path, {"a": 2}, {})
    assert json.loads(machine.read_text()) == {"a": 2, "half": "?"}
    machine.write_text("{ broken")
    assert not settings.apply_machine(tmp_path, {"a": 2}, {})
    assert machine.read_text() == "{ broken"


def test_git_status_output() -> None:
    lines = ["# branch.oid " + "a" * 40, "# branch.head my branch", "# branch.upstream origin/x", "# branch.ab +2 -3"]
    files = ["1 .M N... 100644 100644 100644 a b f", "2 R. x", "? new", "u UU x", "! ignored"]
    assert parse_status(lines + files) == {
        "branch": "my branch",
        "head": "a" * 40,
        "ahead": 2,
        "behind": 3,
        "uncommitted": 4,
    }
    assert parse_status(["# branch.oid (initial)", "# branch.head (detached)"])["branch"] is None


def test_listeners_of_this_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as four, socket.create_server(("::", 0), family=socket.AF_INET6) as six:
        found = {item.port: item for item in listeners.listening()}
        assert found[four.getsockname()[1]].address == "127.0.0.1"
        assert found[six.getsockname()[1]].address == "::"
        assert found[four.getsockname()[1]].inode in listeners.inodes_of([os.getpid()])
        tables = [Path("/proc/net", name).read_text() for name in ("tcp", "tcp6")]
        parsed = {item for text in tables for item in listeners.parse(text)}
        assert {found[four.getsockname()[1]], found[six.getsockname()[1]]} <= parsed


def test_where_a_listener_is_reached() -> None:
    wide, narrow = listeners.Listener(3000, "::", 1), listeners.Listener(3000, "127.0.0.1", 2)
    assert listeners.targets(wide, [wide]) == ["::1", "127.0.0.1"]
    assert listeners.targets(wide, [wide, narrow]) == ["::1"]
    assert listeners.targets(narrow, [narrow]) == ["127.0.0.1"]
    assert listeners.targets(listeners.Listener(3000, "0.0.0.0", 3), []) == ["127.0.0.1"]


def test_terminals_have_numbers() -> None:
    assert [terminal_number(os.makedev(136, 3)), terminal_number(os.makedev(137, 0))] == [3, 256]
    assert terminal_number(0) is None


def test_whose_a_process_is_counts_as_long_as_it_lives() -> None:
    verdicts = [True, False, False]
    activity = Activity(Board(), lambda _: verdicts.pop(0))

    def busy(*, ticks: int, began: int) -> bool:
        return activity.busy([Proc(2**22 + 1, 1, "R", 0, ticks, began)])

    assert [busy(ticks=ticks, began=1) for ticks in (0, 5_000)] == [False, False]
    # The number of an ended process may be given to the next one.
    assert [busy(ticks=ticks, began=2) for ticks in (0, 5_000, 5_000)] == [False, True, False]
    activity.busy([])
    assert not busy(ticks=9_000, began=2)
    assert verdicts == []


def test_start_of_a_process() -> None:
    with subprocess.Popen(["sleep", "100"]) as child:
        found = proctable.table()
        assert 0 < found[os.getpid()].began < found[child.pid].began
        child.kill()


def test_values_for_git() -> None:
    assert quote('A "b" \\ c\nd') == '"A \\"b\\" \\\\ c\\nd"'


def test_a_notice_stays_until_it_was_delivered() -> None:
    board = Board(clock=lambda: 10.0)
    for number in range(40):
        board.notice("x", str(number))
    notices = board.document()["notices"]
    assert [notice["message"] for notice in notices] == [str(number) for number in range(10, 40)]
    board.delivered({notice["id"] for notice in notices[:29]})
    assert [notice["message"] for notice in board.document()["notices"]] == ["39"]


async def test_relay_passes_half_closed_streams_on(tmp_path: Path) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Answers only after the other side has said that nothing more comes.
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    [listener] = [item for item in listeners.listening() if item.port == port]
    board = Board()
    relay = Relay(tmp_path / "p.sock", listener, board)
    await relay.open()
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "p.sock"))
    data = b"abc" * 400_000
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == data.upper()
    assert board.document()["activity"]["ports"] is not None
    writer.close()
    server.close()
    await eventually_async(lambda: all(item.port != port for item in listeners.listening()))
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "p.sock"))
    assert await reader.read() == b""
    writer.close()
    await relay.close()
    assert not (tmp_path / "p.sock").exists()


async def test_what_comes_before_there_is_another_side_is_kept_for_it() -> None:
    loop, among = asyncio.get_running_loop(), set[Side]()
    (near, here), (far, there) = socket.socketpair(), socket.socketpair()
    with near, far:
        reading, one = await loop.create_connection(lambda: Side(among), sock=here)
        _, two = await loop.create_connection(lambda: Side(among), sock=there)
        # As Python 3.11.2 does after each `connection_made`.
        reading.resume_reading()
        near.sendall(b"early ")
        await eventually_async(lambda: not reading.is_reading(), what="it reads no more than that")
        near.sendall(b"late")
        one.join(two)
        far.setblocking(False)
        said = b""
        while len(said) < len(b"early late"):
            said += await asyncio.wait_for(loop.sock_recv(far, 100), 10)
        assert said == b"early late"
        await break_off(among)
