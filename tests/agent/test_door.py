"""The door: who is let in, and where to."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import textwrap
from pathlib import Path

import pytest

from agent import environment
from agent.door import LINE_LIMIT, MOST, MOST_ARRIVALS, Refusals
from agent.logs import Log
from agent.problems import Problem
from tests.agent.harness import Agent
from tests.agent.visits import KEY, MEGA, call, let_in, program, read, rest, tear, visit
from tests.support.git_http import GitServer
from tests.support.waiting import eventually


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_key_opens_the_editor(home: Agent, host: str) -> None:
    # What comes right behind the line is the editor's already.
    connection = call(home, f"SLIPWAY/1 {KEY} ide\nGET /?folder=x HTTP/1.0\r\n\r\n".encode(), host)
    assert read(connection, 3) == b"OK\n"
    answer = rest(connection)
    assert answer.startswith(b"HTTP/1.0 200")
    assert answer.endswith(b"\r\n\r\neditor")


def test_the_key_opens_a_port_of_a_program(agent: Agent, git_server: GitServer) -> None:
    server = textwrap.dedent("""
        import http.server, pathlib
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        pathlib.Path("port").write_text(str(server.server_port))
        server.serve_forever()
    """)
    data = os.urandom(3 * MEGA)
    files: dict[str, str | bytes] = {
        "server.py": server,
        "big.bin": data,
        ".devcontainer.json": '{"postCreateCommand": "python3 server.py"}',
    }
    agent.has_door(KEY)
    agent.start(git_server.create_repository("app", files))
    agent.wait(lambda: agent.platform.reports and agent.platform.reports[-1]["ports"])
    port = int((agent.folder / "port").read_text())

    connection = let_in(agent, f"port/{port}")
    connection.sendall(b"GET /big.bin HTTP/1.0\r\n\r\n")
    assert rest(connection).endswith(b"\r\n\r\n" + data)

    assert agent.platform.reports[-1]["ports"] == [port]
    assert agent.process is not None
    for pid in set(agent.processes()) - {agent.process.pid}:
        told = Path(f"/proc/{pid}/environ").read_text()
        assert KEY not in told
        assert "SLIPWAY_DOOR" not in told
    assert rest(visit(agent, f"port/{agent.door_port()}")) == b"NO\n"
    assert rest(visit(agent, "ide", key=KEY[:-1] + "0")) == b""
    assert agent.stop() == 0
    assert KEY not in agent.log_path.read_text() + json.dumps(agent.platform.reports)


@pytest.mark.parametrize(
    "line",
    [
        f"SLIPWAY/1 {KEY[:-1]} ide\n",
        f"SLIPWAY/1 {KEY}0 ide\n",
        f"SLIPWAY/1 {KEY.upper()} ide\n",
        "SLIPWAY/1  ide\n",
        f"SLIPWAY/1 {KEY}\n",
        f"SLIPWAY/2 {KEY} ide\n",
        f"SLIPWAY/1 {KEY} ide now\n",
        f" SLIPWAY/1 {KEY} ide\n",
        f"SLIPWAY/1\t{KEY}\tide\n",
        f"{KEY}\n",
        "\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "SLIPWAY/1 \xff\x00 ide\n",
        f"SLIPWAY/1 {KEY} {'x' * (LINE_LIMIT - len(KEY) - 11)}\n",
        "x" * LINE_LIMIT,
    ],
)
def test_who_does_not_have_the_key_is_told_nothing(home: Agent, line: str) -> None:
    assert rest(call(home, line.encode("latin-1"))) == b""


def test_a_line_without_an_end_is_not_waited_for(home: Agent) -> None:
    connection = call(home, f"SLIPWAY/1 {KEY} ide".encode())
    connection.shutdown(socket.SHUT_WR)
    assert rest(connection) == b""


def test_a_line_in_pieces_is_a_line(home: Agent) -> None:
    connection = call(home, b"")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in f"SLIPWAY/1 {KEY} ide\n".encode():
        connection.sendall(bytes((byte,)))
    assert read(connection, 3) == b"OK\n"
    connection.close()


@pytest.mark.parametrize(
    "name",
    ["", "IDE", "ide/", "../ide", "port", "port/", "port/0", "port/04000", "port/+4000", "port/4000/", "port/4000.sock",
     "port/4000\0", "port/../../ide", "port/\u0664000", "port/4001", "port/65536", "port/123456", "ide\r",
     "x" * (LINE_LIMIT - len(KEY) - 12)],
)  # fmt: skip
def test_what_is_not_there_is_said(home: Agent, name: str) -> None:
    with program(home, 4000):
        assert rest(visit(home, name)) == b"NO\n"


def test_an_editor_that_is_not_there_is_said(home: Agent) -> None:
    path = home.run_dir / "ide.sock"
    moved = path.rename(path.with_name("moved.sock"))
    try:
        assert rest(visit(home, "ide")) == b"NO\n"
    finally:
        moved.rename(path)


def test_who_takes_too_long_is_turned_away(agent: Agent, git_server: GitServer) -> None:
    agent.env["SLIPWAY_AGENT_DOOR_LINE"] = "0.3"
    agent.has_door(KEY)
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait_condition("ide", "done")
    slow = call(agent, f"SLIPWAY/1 {KEY} id".encode())
    quick = let_in(agent, "ide")
    assert rest(slow) == b""
    # The time is over for the one that was let in as well, and was none of its own.
    quick.sendall(b"GET /?folder=x HTTP/1.0\r\n\r\n")
    assert rest(quick).endswith(b"editor")
    assert [record["text"] for record in refusals(agent)] == ["Turned away at the door: 1 too slow."]


def test_strangers_do_not_fill_the_log(agent: Agent, git_server: GitServer) -> None:
    agent.has_door(KEY)
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    for _ in range(20):
        assert rest(visit(agent, "ide", key="guess")) == b""
    # A probe that only looks whether somebody listens is no stranger.
    call(agent, b"").close()
    assert rest(visit(agent, "port/1")) == b"NO\n"
    assert len(refusals(agent)) == 1
    assert agent.stop() == 0
    assert [record["text"] for record in refusals(agent)] == [
        "Turned away at the door: 1 wrong key.",
        "Turned away at the door: 19 wrong key.",
    ]


def refusals(agent: Agent) -> list[dict[str, str]]:
    return [record for record in agent.log() if record.get("event") == "door_refused"]


def test_refusals_are_told_once_a_minute(tmp_path: Path) -> None:
    now = 0.0
    with (tmp_path / "log").open("wb") as file:
        refused = Refusals(Log(file.fileno()), clock=lambda: now)
        for now in (0.0, 1.0, 59.9, 60.0, 61.0, 200.0):
            refused.count("too slow" if now == 1.0 else "wrong key")
        refused.tell()
    texts = [json.loads(line)["text"].partition(": ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert texts == ["1 wrong key.", "1 too slow, 2 wrong key.", "2 wrong key."]


def test_silent_strangers_do_not_keep_the_gateway_out(home: Agent) -> None:
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(call(home, b"")) for _ in range(2 * MOST_ARRIVALS + 1)]
        let_in(home, "ide").close()
        gone = [stranger for stranger in strangers if select.select([stranger], [], [], 0)[0]]
        # Those that came first made room, twice.
        assert gone == strangers[: 2 * MOST_ARRIVALS]


def test_no_more_are_let_in_than_there_is_room_for(agent: Agent, git_server: GitServer) -> None:
    agent.has_door(KEY)
    # What many machines allow a process at first.
    agent.prefix = ["sh", "-c", 'ulimit -Sn 1024 && exec "$@"', "sh"]
    agent.start(git_server.create_repository("app", {"a.txt": "x"}))
    agent.wait_condition("ide", "done")
    with program(agent, 4000), contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(visit(agent, "port/4000")) for _ in range(MOST)]
        assert {read(visitor, 3) for visitor in visitors} == {b"OK\n"}
        assert rest(visit(agent, "port/4000")) == b""
        tear(visitors[0])
        eventually(lambda: read(stack.enter_context(visit(agent, "port/4000")), 3) == b"OK\n")
    eventually(lambda: rest(visit(agent, "port/1")) == b"NO\n")


def test_a_stop_closes_the_door_at_once(agent: Agent, git_server: GitServer) -> None:
    agent.env |= {"SLIPWAY_AGENT_COMMAND_GRACE": "60", "SLIPWAY_AGENT_DOOR_LINE": "60"}
    agent.has_door(KEY)
    text = '{"postCreateCommand": "trap : TERM; while :; do sleep 1; done"}'
    agent.start(git_server.create_repository("app", {".devcontainer.json": text}))
    agent.wait_condition("commands", "running")
    assert agent.process is not None
    with program(agent, 4000) as listener:
        inside, arrival = let_in(agent, "port/4000"), call(agent, b"SLIPWAY/1 ")
        there, _ = listener.accept()
        there.settimeout(10)
        agent.process.send_signal(signal.SIGTERM)
        assert rest(inside) == rest(arrival) == rest(there) == b""
    with pytest.raises(ConnectionRefusedError):
        call(agent, b"")
    # Its command is still being waited for.
    assert agent.process.poll() is None
    assert agent.stop() == 0
    assert not any(record["level"] == "error" for record in agent.log())


@pytest.mark.parametrize("fault", ["no key", "port in use"])
def test_a_door_that_cannot_be_opened_is_told(agent: Agent, git_server: GitServer, fault: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        agent.has_door(*(("", "127.0.0.1:0") if fault == "no key" else (KEY, taken)))
        agent.start(git_server.create_repository("app", {"a.txt": "x"}))
        condition = agent.wait_condition("ide", "failed")
    assert condition["code"] == ("door_without_key" if fault == "no key" else "door_unusable")
    assert condition["message"]
    assert condition["next_step"]
    assert not any(record.get("event") == "door_open" for record in agent.log())
    assert agent.stop() == 0
    assert agent.platform.condition("ide")["status"] == "failed"


@pytest.mark.parametrize(
    ("text", "door"),
    [
        ("", None),
        ("0.0.0.0:7411", ("0.0.0.0", 7411)),
        ("[::]:7411", ("::", 7411)),
        ("[FD00::0:7]:0", ("fd00::7", 0)),
        *((text, "refused") for text in (
            "7411", ":7411", "::7411", "localhost:7411", "[::]", "[::]:", "[:::]:1", "1.2.3:4", "1.2.3.4:65536",
            "1.2.3.4:-1", "1.2.3.4: 1", "1.2.3.4:\u0661", "tcp://1.2.3.4:1", "1.2.3.4:1\n",
        )),
    ],
)  # fmt: skip
def test_where_the_door_is(agent: Agent, text: str, door: object) -> None:
    source = {**agent.env, "SLIPWAY_DOOR": text}
    if door == "refused":
        with pytest.raises(Problem, match="SLIPWAY_DOOR") as caught:
            environment.read(source)
        assert caught.value.code == "environment_invalid"
    else:
        read_back = environment.read(source)
        assert read_back.door == door
        assert "SLIPWAY_DOOR" not in read_back.variables
