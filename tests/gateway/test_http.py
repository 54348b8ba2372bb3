"""HTTP through the gateway: routing, streaming, header rules, broken peers."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
from yarl import URL

from tests.gateway.stage import EVENTS, MEGA, OWNER, TOKEN, Stage, still
from tests.support.waiting import eventually_async


async def test_owner_reaches_the_ide_with_path_and_query_as_sent(stage: Stage) -> None:
    status, _, body = await stage.ask("/a%20b/../c?x=1&y=%2F")
    assert status == 200
    assert body["who"] == "workspace"
    assert body["path"] == "/a%20b/../c?x=1&y=%2F"


@pytest.mark.parametrize("host", ["localhost:8000", "LOCALHOST", "127.0.0.1", "[::1]:8000", "example.org"])
async def test_every_other_host_is_the_portal(stage: Stage, host: str) -> None:
    status, headers, body = await stage.ask("/x?y=1", headers={"Host": host, "Cookie": "sessionid=mine"})
    assert (status, body["who"], body["path"]) == (200, "web", "/x?y=1")
    assert body["headers"]["Host"] == host
    assert body["headers"]["Cookie"] == "sessionid=mine"
    assert "sessionid=s" in headers["Set-Cookie"]


@pytest.mark.parametrize(
    "host",
    ["9demo.localhost", "a.b.localhost", "80-demo.localhost", "99999-demo.localhost", "-x.localhost", "x_y.localhost"],
)
async def test_a_host_that_can_be_nothing_gets_a_clear_404(stage: Stage, host: str) -> None:
    status, _, body = await stage.ask(headers=stage.page(host))
    assert status == 404
    assert b"There is no such address" in body
    assert not stage.web.questions


async def test_host_is_read_without_regard_to_case(stage: Stage) -> None:
    status, _, body = await stage.ask(headers=stage.headers("DEMO.LocalHost"))
    assert (status, body["who"]) == (200, "workspace")


async def test_port_host_reaches_the_port_and_a_silent_port_says_so(stage: Stage) -> None:
    status, _, body = await stage.ask("/p", headers=stage.headers("3000-demo.localhost"))
    assert (status, body["path"]) == (200, "/p")
    status, _, page = await stage.ask(headers=stage.page("3001-demo.localhost"))
    assert status == 502
    assert b"Nothing listens on port 3001 yet" in page
    status, headers, problem = await stage.ask(headers=stage.headers("3001-demo.localhost"))
    assert (status, problem["code"]) == (502, "port_silent")
    assert headers["Content-Type"] == "application/problem+json"


async def test_a_link_in_the_workspace_folder_is_not_followed(stage: Stage) -> None:
    ports = stage.folder / "run" / "ports"
    (ports / "4000.sock").symlink_to(stage.folder / "web.sock")
    status, _, _ = await stage.ask("/x", headers=stage.headers("4000-demo.localhost"))
    assert status == 502
    ports.rename(stage.folder / "elsewhere")
    ports.symlink_to(stage.folder / "elsewhere")
    status, _, _ = await stage.ask("/x", headers=stage.headers("3000-demo.localhost"))
    assert status == 502


@pytest.mark.parametrize(
    "path",
    ["/internal/authorize", "//internal/authorize", "/%69nternal/authorize", "/./internal/x", "/x/../internal/x",
     "/%2569nternal/x", "/Internal/x", "/internal", "\\internal/x"],
)  # fmt: skip
async def test_internal_paths_are_hidden(stage: Stage, path: str) -> None:
    first = f"POST {path if path[0] == '/' else '/' + path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    reader, writer = await stage.raw(first.encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    writer.close()
    assert not stage.web.questions


async def test_platform_cookies_and_tokens_do_not_reach_the_workspace(stage: Stage) -> None:
    cookies = f"a=1; sessionid=x; slipway_workspace={OWNER}; csrftoken=t; __Host-sessionid=y; SLIPWAY_nonce=n; b=2"
    cookies += (
        "; __Host-slipway_workspace=w; __host-slipway_nonce=n; __Secure-slipway_workspace=s; __Http-slipway_nonce=n"
    )
    _, _, body = await stage.ask(headers=stage.headers(Cookie=cookies))
    assert body["headers"]["Cookie"] == "a=1; b=2"
    _, _, body = await stage.ask()
    assert "Cookie" not in body["headers"]
    _, _, body = await stage.ask(headers=stage.headers(Cookie="", Authorization=f"Bearer {TOKEN}"))
    assert "Authorization" not in body["headers"]
    _, _, body = await stage.ask(headers=stage.headers(Authorization="Bearer of-the-program"))
    assert body["headers"]["Authorization"] == "Bearer of-the-program"


@pytest.mark.parametrize("host", ["demo.localhost", "3000-demo.localhost"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR "])
async def test_a_token_is_known_however_its_scheme_is_written(stage: Stage, host: str, scheme: str) -> None:
    status, _, body = await stage.ask(headers=stage.headers(host, Cookie="", Authorization=f"{scheme} {TOKEN}"))
    assert status == 200
    assert "Authorization" not in body["headers"]
    assert stage.web.questions[-1]["bearer"] == TOKEN


@pytest.mark.parametrize("host", ["demo.localhost", "3000-demo.localhost"])
@pytest.mark.parametrize(
    ("values", "kept"),
    [
        (["Bearer of-the-program", f"bearer {TOKEN}"], "Bearer of-the-program"),
        ([f"bearer {TOKEN}", "Basic dTpw"], "Basic dTpw"),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], None),
        ([f"Token {TOKEN}"], None),
        ([f"Bearer of-the-program, BEARER {TOKEN}"], None),
        ([f'Digest token="{TOKEN}"'], None),
        ([TOKEN], None),
        (["Bearer abcslp_within-another-word"], "Bearer abcslp_within-another-word"),
    ],
)
async def test_no_token_of_ours_reaches_a_workspace(
    stage: Stage, host: str, values: list[str], kept: str | None
) -> None:
    lines = "".join(f"Authorization: {value}\r\n" for value in values)
    head = f"GET /x HTTP/1.1\r\nHost: {host}\r\nCookie: slipway_workspace={OWNER}\r\nConnection: close\r\n{lines}\r\n"
    reader, writer = await stage.raw(head.encode())
    answer, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert TOKEN.encode() not in body
    seen = [line for line in body.decode().split('"') if line.startswith(("Bearer", "Basic", "Digest", "Token"))]
    assert seen == ([kept] if kept else [])
    writer.close()


async def test_a_second_authorization_header_may_carry_the_token(stage: Stage) -> None:
    head = "GET /x HTTP/1.1\r\nHost: demo.localhost\r\nAuthorization: Basic dTpw\r\n"
    reader, writer = await stage.raw(f"{head}authorization: bearer {TOKEN}\r\n\r\n".encode())
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
    assert stage.web.questions[-1]["bearer"] == TOKEN
    writer.close()


async def test_set_cookie_of_a_workspace_cannot_pose_as_the_platform(stage: Stage) -> None:
    query = "set=a=1;Domain=localhost;Path=/&set=sessionid=x&set=__Host-csrftoken=y&set=slipway_workspace=z"
    query += "&set=b=2;domain=.LOCALHOST&set=c=3;Domain=demo.localhost"
    async with stage.session.get(stage.url("/cookies?" + query.replace(";", "%3B")), headers=stage.headers()) as answer:
        assert answer.headers.getall("Set-Cookie") == ["a=1;Path=/", "b=2", "c=3;Domain=demo.localhost"]


async def test_forwarding_headers_are_ours_and_hop_by_hop_ones_go(stage: Stage) -> None:
    headers = stage.headers(
        X_Forwarded_For="6.6.6.6", X_Forwarded_Host="evil", X_Forwarded_Proto="gopher", X_Request_ID="spoof-spoof",
        Connection="keep-alive, X-Gone", X_Gone="1", TE="trailers", Forwarded="for=6.6.6.6", X_Slipway_Internal="guess",
        Proxy_Connection="x",
    )  # fmt: skip
    headers["X_Forwarded_User"] = "admin"
    _, _, body = await stage.ask(headers=headers)
    seen = body["headers"]
    assert seen["X-Forwarded-For"] == "127.0.0.1"
    assert seen["X-Forwarded-Host"] == seen["Host"] == f"demo.localhost:{stage.port}"
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["X-Request-ID"] != "spoof-spoof"
    gone = {"X-Gone", "TE", "Forwarded", "X-Slipway-Internal", "Proxy-Connection", "Connection", "X_Forwarded_User"}
    assert not gone & seen.keys()


async def test_large_upload_streams(stage: Stage) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(32):
            yield b"z" * MEGA

    wanted = hashlib.sha256(b"z" * 32 * MEGA).hexdigest()
    for data in (pieces(), io.BytesIO(b"z" * 32 * MEGA)):
        status, _, body = await stage.ask("/up", method="PUT", data=data)
        assert (status, body["length"], body["digest"]) == (200, 32 * MEGA, wanted)


async def test_large_download_waits_for_a_slow_reader(stage: Stage) -> None:
    async with stage.session.get(stage.url("/big?mega=64"), headers=stage.headers()) as answer:
        await answer.content.readexactly(1)
        # What fits into all buffers on the way is sent, then the program has to wait.
        await eventually_async(still(lambda: stage.workspace.received))
        assert stage.workspace.received < 48 * MEGA
        rest = 0
        async for chunk in answer.content.iter_any():
            rest += len(chunk)
        assert stage.workspace.received == 64 * MEGA
        assert rest > 60 * MEGA


@pytest.mark.parametrize("host", ["localhost", "demo.localhost"])
async def test_server_sent_events_flow_one_by_one(stage: Stage, host: str) -> None:
    queue = stage.web_app[EVENTS] if host == "localhost" else stage.workspace_app[EVENTS]
    async with stage.session.get(stage.url("/sse"), headers=stage.headers(host)) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for number in range(3):
            queue.put_nowait(b"data: %d\n\n" % number)
            assert await asyncio.wait_for(answer.content.readuntil(b"\n\n"), 20) == b"data: %d\n\n" % number
        queue.put_nowait(b"")
        assert await answer.read() == b""


async def test_a_client_that_leaves_ends_the_request_upstream(stage: Stage) -> None:
    stage.workspace_app[EVENTS].put_nowait(b"data: 1\n\n")
    answer = await stage.session.get(stage.url("/sse"), headers=stage.headers())
    await answer.content.readuntil(b"\n\n")
    answer.close()
    await eventually_async(lambda: stage.workspace.cancelled == 1)


@pytest.mark.parametrize(("method", "code"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)])
async def test_answers_without_a_body_leave_the_connection_usable(stage: Stage, method: str, code: int) -> None:
    request = (
        f"{method} /status?code={code} HTTP/1.1\r\nHost: demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n\r\n"
    )
    follow = request.replace(f"{method} /status?code={code}", "GET /second").replace(
        "\r\n\r\n", "\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await stage.raw((request + follow).encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    first, _, rest = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 %d" % code)
    assert b"transfer-encoding" not in first.lower()
    assert rest.startswith(b"HTTP/1.1 200")
    assert b"/second" in rest
    writer.close()


@pytest.mark.parametrize("host", ["demo.localhost", "localhost"])
async def test_a_head_request_that_keeps_its_upstream_busy_holds_nobody_up(stage: Stage, host: str) -> None:
    """A server may make the body that it must not send, and reads nothing before that is done."""
    status, _, _ = await stage.ask("/sse", method="HEAD", headers=stage.headers(host))
    assert status == 200
    async with asyncio.timeout(5):
        assert (await stage.ask("/next", headers=stage.headers(host)))[0] == 200


async def test_what_the_gateway_says_to_a_head_request_has_no_body(stage: Stage) -> None:
    async def hang_up_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    rude = await asyncio.start_unix_server(hang_up_at_once, stage.folder / "run" / "ports" / "3002.sock")
    stage.stack.push_async_callback(rude.wait_closed)
    stage.stack.callback(rude.close)
    head = f"HEAD / HTTP/1.1\r\nHost: 3002-demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n\r\n"
    follow = head.replace("HEAD", "GET").replace("3002", "3000").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    reader, _ = await stage.raw((head + follow).encode())
    first, _, rest = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 502")
    assert rest.startswith(b"HTTP/1.1 200")


async def test_http_1_0_gets_a_plain_body(stage: Stage) -> None:
    reader, writer = await stage.raw(
        f"GET /big?mega=1 HTTP/1.0\r\nHost: demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n\r\n".encode()
    )
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(body) == MEGA
    writer.close()


async def test_expect_continue_is_answered_when_the_way_is_clear(stage: Stage) -> None:
    head = f"PUT /up HTTP/1.1\r\nHost: demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n"
    reader, writer = await stage.raw(f"{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hello")
    answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"length": 5' in answer + await reader.read(500)
    writer.close()
    stranger = head.replace(OWNER, "nobody")
    reader, writer = await stage.raw(f"{stranger}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 401")
    writer.close()


async def test_an_early_answer_gets_through_while_the_client_still_sends(stage: Stage) -> None:
    head = f"POST /early HTTP/1.1\r\nHost: demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n"
    reader, writer = await stage.raw(f"{head}Content-Length: 100000000\r\n\r\n".encode() + b"x" * MEGA)
    assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 413")
    writer.close()


SMUGGLING = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET",
    "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "Content-Length: +5\r\n\r\nhello",
    "Content-Length: 5, 5\r\n\r\nhello",
    "Transfer-Encoding: chunked\r\n\r\n5;\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "X: y\r\n folded\r\n\r\n",
    "X: a\x00b\r\n\r\n",
    "Host: other.localhost\r\n\r\n",
]


@pytest.mark.parametrize("probe", SMUGGLING)
async def test_ambiguous_requests_are_refused(stage: Stage, probe: str) -> None:
    head = f"POST /up HTTP/1.1\r\nHost: demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n"
    reader, writer = await stage.raw((head + probe).encode())
    status = await asyncio.wait_for(reader.readline(), 20)
    assert status.startswith(b"HTTP/1.1 400"), status
    await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert not [r for r in stage.workspace.requests if r.path != "/up"]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01" + b"\xff" * 100_000, b"400"),
        (b"GET /" + b"a" * 100_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(20_000)), b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", b"405"),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", b"501"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: miracles\r\n\r\n", b"417"),
    ],
)
async def test_nonsense_is_answered_and_the_connection_closed(stage: Stage, data: bytes, status: bytes) -> None:
    reader, writer = await stage.raw(data)
    assert (await asyncio.wait_for(reader.readline(), 20)).split()[1] == status
    await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert (await stage.ask())[0] == 200


async def test_absolute_target_takes_its_host_from_the_target(stage: Stage) -> None:
    request = f"GET http://demo.localhost/x?q HTTP/1.1\r\nHost: localhost\r\nCookie: slipway_workspace={OWNER}\r\n\r\n"
    reader, writer = await stage.raw(request.encode())
    answer = await reader.readuntil(b"}")
    assert b'"who": "workspace"' in answer
    assert b'"path": "/x?q"' in answer
    writer.close()


@pytest.mark.parametrize("way", ["socket", "network"])
async def test_agents_reach_only_their_paths(stage: Stage, way: str) -> None:
    async with stage.agent(way) as session:
        report, token = json.dumps({"run": 3}), {"Authorization": "Bearer run-token"}
        async with session.post("/internal/agent/report", data=report, headers=token) as answer:
            assert answer.status == 200
        for path in (
            "/",
            "/internal/authorize",
            "/internal/agent/../authorize",
            "/internal/agent/%2e%2e/x",
            "/api/v1/x",
        ):
            for host in ("platform", "demo.localhost", "localhost:8000"):
                async with session.post(URL(path, encoded=True), headers={"Host": host}) as answer:
                    assert answer.status == 404, path
    [seen] = stage.web.reports
    assert seen["headers"]["Authorization"] == "Bearer run-token"
    assert seen["headers"]["Host"] == "localhost:8000"
    assert seen["body"] == '{"run": 3}'
    assert not stage.web.questions


@pytest.mark.parametrize("code", [599, 600, 700, 999])
async def test_a_status_that_is_none_passes_and_is_counted(stage: Stage, code: int) -> None:
    head = f"GET /status?code={code} HTTP/1.1\r\nHost: demo.localhost\r\nCookie: slipway_workspace={OWNER}\r\n\r\n"
    follow = head.replace(f"/status?code={code}", "/next").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
    reader, _ = await stage.raw((head + follow).encode())
    answers = await asyncio.wait_for(reader.read(), 20)
    assert answers.startswith(b"HTTP/1.1 %d" % code)
    assert b"HTTP/1.1 200" in answers


async def test_metrics_and_health_are_on_the_admin_listener_only(stage: Stage) -> None:
    await stage.ask()
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(f"{stage.folder}/admin.sock")) as session:
        async with session.get("http://admin/metrics") as answer:
            text = await answer.text()
        assert 'slipway_gateway_requests_total{code="2xx",kind="ide"}' in text
        assert OWNER not in text
        for path, status in {"/healthz": 200, "/readyz": 200, "/x": 404}.items():
            async with session.get(f"http://admin{path}") as answer:
                assert answer.status == status
    assert (await stage.ask("/metrics", headers={"Host": "localhost"}))[2]["who"] == "web"
