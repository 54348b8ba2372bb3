"""The gateway as its own process: settings, drain, limits, and what stays out of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import aiohttp
import pytest
from multidict import CIMultiDict

from gateway.config import Config, ConfigError, read
from gateway.descriptors import fitted
from tests.gateway.process import running
from tests.gateway.stage import hang_up, staged
from tests.support.waiting import eventually_async

ROOT = Path(__file__).resolve().parents[2]


async def test_the_process_loads_nothing_of_the_server(short_folder: Path) -> None:
    code = "import sys, gateway.__main__; print([m for m in sys.modules if m.split('.')[0] in sys.argv[1:]])"
    names = ("django", "config", "kernel", "accounts", "workspaces", "agent")
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *names, cwd=ROOT, stdout=PIPE)
    assert (await process.communicate())[0].strip() == b"[]"


async def test_a_head_that_comes_too_slowly_is_cut_off(short_folder: Path) -> None:
    async with staged(short_folder, header_seconds=0.5, idle_seconds=0.5) as stage:
        reader, writer = await stage.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX")
        # A byte now and then does not put the clock back.
        writer.write(b"-Slow")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 12) == b""
        reader, writer = await stage.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
        with contextlib.suppress(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 12)
        assert not stage.gateway.public.connections


async def test_connections_are_limited(short_folder: Path) -> None:
    async with staged(short_folder, max_connections=2) as stage:
        held = [await stage.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(2)]
        for reader, _ in held:
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        reader, _ = await stage.raw(b"")
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 12) == b""
        held[0][1].close()
        await eventually_async(lambda: len(stage.gateway.public.connections) == 1)
        assert (await stage.ask("/", headers={"Host": "localhost"}))[0] == 200
        held[1][1].close()


async def test_the_system_looks_after_clients_that_vanish(short_folder: Path) -> None:
    async with staged(short_folder) as stage:
        editor = await stage.connect()
        (connection,) = stage.gateway.public.connections
        assert connection.transport is not None
        told = connection.transport.get_extra_info("socket")
        tcp = {
            name: told.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        }
        assert told.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert tcp == {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
        await editor.close()


async def test_it_takes_the_descriptors_it_may_have(short_folder: Path) -> None:
    async with running(short_folder, limits="ulimit -Sn 300") as gateway:
        soft, hard = resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE)
        assert soft == hard > 300


async def test_too_few_descriptors_leave_room_for_those_who_are_in(short_folder: Path) -> None:
    async with running(short_folder, limits="ulimit -n 256") as gateway, aiohttp.ClientSession() as session:
        editor = await session.ws_connect(gateway.url("/ws"), headers=gateway.headers)
        crowd = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(300)]
        assert await gateway.ready() == 200
        await editor.send_str("still here")
        assert await editor.receive_str(timeout=5) == "still here"
        another = aiohttp.UnixConnector(f"{short_folder}/admin.sock")
        async with aiohttp.ClientSession(connector=another) as look, look.get("http://admin/metrics") as answer:
            assert "slipway_gateway_connections 48.0" in await answer.text()
        for _, writer in crowd:
            await hang_up(writer)
        await editor.close()


@pytest.mark.parametrize(
    ("descriptors", "public", "agents"),
    [(1 << 20, 10_000, 1_000), (20_000, 8_936, 1_000), (1_024, 336, 112), (256, 48, 16), (16, 6, 2)],
)
def test_connections_fit_into_the_descriptors(descriptors: int, public: int, agents: int) -> None:
    config = fitted(Config(), descriptors)
    assert (config.max_connections, config.max_agent_connections) == (public, agents)


CROWD = """
import os, socket, sys
os.setuid(int(sys.argv[3]))
held = []
for _ in range(int(sys.argv[2])):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(sys.argv[1])
    try:
        held[-1].sendall(b"GET /internal/agent/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
        print(held[-1].recv(9).decode(), flush=True)
    except ConnectionError:
        print("", flush=True)
sys.stdin.read()
"""


async def test_agents_get_a_part_and_each_account_a_share_of_it(short_folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to connect as somebody else")
    async with staged(short_folder, max_agent_connections=5, max_connections_per_user=2) as stage:
        short_folder.chmod(0o711)

        async def come(user: int, count: int) -> list[bool]:
            """Connect so many times, stay, and tell which were let in."""
            crowd = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CROWD, f"{short_folder}/platform.sock", str(count), str(user),
                stdin=PIPE, stdout=PIPE,
            )  # fmt: skip
            stage.stack.push_async_callback(leave, crowd)
            assert crowd.stdout is not None
            return [(await asyncio.wait_for(crowd.stdout.readline(), 20)).startswith(b"HTTP/1.1") for _ in range(count)]

        assert await come(40_001, 3) == [True, True, False]
        assert await come(40_002, 1) == [True]
        # Without accounts of their own, all agents run under that of the gateway.
        assert await come(0, 3) == [True, True, False]
        assert (await stage.ask())[0] == 200


async def leave(crowd: Process) -> None:
    """Let them go home."""
    crowd.kill()
    await crowd.wait()


async def test_a_thousand_connections_leave_nothing_behind(short_folder: Path) -> None:
    async with staged(short_folder) as stage:
        for _ in range(10):
            sockets = await asyncio.gather(*[stage.connect() for _ in range(50)])
            answers = await asyncio.gather(
                *[stage.session.get(stage.url(), headers=stage.headers()) for _ in range(50)]
            )
            for each in answers:
                each.close()
            for socket in sockets:
                assert socket._conn is not None
                assert socket._conn.transport is not None
                socket._conn.transport.abort()
        # Those that the client keeps for reuse are its own.
        await stage.session.close()
        await eventually_async(lambda: not stage.gateway.public.connections and not stage.workspace.open_sockets)


TRUSTED = ["--trusted-proxies", "127.0.0.0/8,::1,10.0.0.0/8"]


async def test_a_trusted_proxy_is_believed(short_folder: Path) -> None:
    config = read([*TRUSTED, "--web", "unix:/x"], {"SLIPWAY_INTERNAL_SECRET": "s"})
    async with staged(short_folder, trusted_proxies=config.trusted_proxies) as stage:
        headers = stage.headers(
            X_Forwarded_For="192.0.2.1",
            X_Forwarded_Proto="https",
            X_Forwarded_Host="demo.example",
            X_Request_ID="abc-12345",
        )
        seen = (await stage.ask(headers=headers))[2]["headers"]
        assert seen["X-Forwarded-For"] == "192.0.2.1"
        assert (seen["X-Forwarded-Proto"], seen["X-Forwarded-Host"]) == ("https", "demo.example")
        assert seen["X-Request-ID"] == "abc-12345"


@pytest.mark.parametrize(
    ("claimed", "told"),
    [
        ([], "127.0.0.1"),
        (["192.0.2.1"], "192.0.2.1"),
        # What stands to the left of the first address that is no proxy of ours was said by the client.
        (["198.51.100.7, 192.0.2.1"], "192.0.2.1"),
        (["198.51.100.7", "192.0.2.1, 10.0.0.5"], "192.0.2.1"),
        (["198.51.100.7,192.0.2.1 , 10.0.0.5,10.1.1.1"], "192.0.2.1"),
        # Everybody on the way is ours: the first of them.
        (["10.0.0.9, 10.0.0.5"], "10.0.0.9"),
        (["192.0.2.1:4711"], "192.0.2.1"),
        (["2001:DB8::1"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["::ffff:192.0.2.1, ::ffff:10.0.0.5"], "192.0.2.1"),
        # Not an address: whoever passed it on is the last that is known.
        (["192.0.2.1, unknown, 10.0.0.5"], "10.0.0.5"),
        (["\\x00"], "127.0.0.1"),
        ([" , ,"], "127.0.0.1"),
        (["fe80::1%25eth0"], "127.0.0.1"),
    ],
)
@pytest.mark.parametrize("host", ["demo.localhost", "localhost"])
async def test_one_address_is_told_that_no_client_can_choose(
    short_folder: Path, claimed: list[str], told: str, host: str
) -> None:
    config = read([*TRUSTED, "--web", "unix:/x"], {"SLIPWAY_INTERNAL_SECRET": "s"})
    async with staged(short_folder, trusted_proxies=config.trusted_proxies) as stage:
        fields = [*stage.headers(host).items(), *(("X-Forwarded-For", value) for value in claimed)]
        async with stage.session.get(stage.url(), headers=CIMultiDict(fields)) as answer:
            assert (await answer.json())["headers"]["X-Forwarded-For"] == told


async def test_agents_over_the_network_have_the_same_limits_and_are_never_believed(short_folder: Path) -> None:
    trusted = read(["--trusted-proxies", "127.0.0.0/8", "--web", "unix:/x"], {"SLIPWAY_INTERNAL_SECRET": "s"})
    limits = {"max_agent_connections": 1, "header_seconds": 0.5, "trusted_proxies": trusted.trusted_proxies}
    async with staged(short_folder, **limits) as stage:
        host, _, port = stage.gateway.remote_agents.address.rpartition(":")
        slow, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /internal/agent/report HTTP/1.1\r\nX")
        await eventually_async(lambda: stage.gateway.remote_agents.connections)
        refused, other = await asyncio.open_connection(host, int(port))
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(refused.read(), 5) == b""
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(slow.read(), 5) == b""
        for each in (writer, other):
            each.close()
        async with stage.agent("network") as session:
            headers = {"X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "gopher", "X-Request-ID": "abc-12345"}
            async with session.post("/internal/agent/report", data=b"r", headers=headers) as answer:
                assert answer.status == 200
    [seen] = stage.web.reports
    assert (seen["headers"]["X-Forwarded-For"], seen["headers"]["X-Forwarded-Proto"]) == ("127.0.0.1", "http")
    assert seen["headers"]["X-Request-ID"] != "abc-12345"


def test_flags_win_over_the_environment(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-file\n")
    environment = {
        "SLIPWAY_GATEWAY_WEB": "http://127.0.0.1:9000",
        "SLIPWAY_GATEWAY_PORT": "9",
        "SLIPWAY_GATEWAY_DRAIN_SECONDS": "2.5",
        "SLIPWAY_INTERNAL_SECRET": "from-environment",
    }
    config = read(["--port", "10", "--secret-file", str(tmp_path / "secret"), "--domain", ".Example.ORG"], environment)
    assert config == Config(
        port=10, web="http://127.0.0.1:9000", drain_seconds=2.5, secret="from-file", domain="example.org"
    )
    assert "from-file" not in repr(config)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--web", "ftp://x"], "web"),
        (["--web", "unix:/x"], "secret"),
        (["--web", "unix:/x", "--secret-file", "/nonexistent"], "secret_file"),
        (["--web", "unix:/x", "--port", "many"], "port"),
        (["--web", "unix:/x", "--agents-listen", "7412"], "agents_listen"),
        (["--web", "unix:/x", "--trusted-proxies", "everybody"], "trusted_proxies"),
    ],
)
def test_a_wrong_setting_is_named(flags: list[str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read(flags, {})
