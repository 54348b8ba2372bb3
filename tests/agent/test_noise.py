"""code-server's complaint about its unbuilt log writer, and what must not go with it."""

from __future__ import annotations

import pytest

from agent.noise import NoiseFilter

HOME = "/opt/ide/node_modules/code-server/lib/vscode"
PLACES = ("build/spdlog.node", "out/Debug/spdlog.node", "lib/binding/node-v137-linux-x64/spdlog.node")
BEGINS = "Error: Could not locate the bindings file. Tried:"
COMPLAINT = [
    BEGINS,
    *(f" → {HOME}/node_modules/@vscode/spdlog/{place}" for place in PLACES),
    f"    at bindings ({HOME}/node_modules/bindings/bindings.js:126:9)",
    f"    at Object.<anonymous> ({HOME}/node_modules/@vscode/spdlog/index.js:3:35)",
    "    at Module._compile (node:internal/modules/cjs/loader:1872:14)",
    "    at async node:internal/modules/esm/loader:643:26",
    f"    at async KI._createSpdLogLogger (file://{HOME}/out/server-main.js:80:5878) {{",
    "  tries: [",
    *(f"    '{HOME}/node_modules/@vscode/spdlog/{place}'," for place in PLACES[:-1]),
    f"    '{HOME}/node_modules/@vscode/spdlog/{PLACES[-1]}'",
    "  ]",
    "}",
]
OTHER_MODULE = [
    BEGINS,
    f" → {HOME}/node_modules/kerberos/build/kerberos.node",
    f"    at bindings ({HOME}/node_modules/bindings/bindings.js:126:9) {{",
    "  tries: [",
    f"    '{HOME}/node_modules/kerberos/build/kerberos.node'",
    "  ]",
    "}",
]
ANOTHER_ERROR = ["Error: listen EADDRINUSE", "    at Server.listen (node:net:1:2) {", "  code: 'EADDRINUSE'", "}"]
BEFORE = ["[2026-11-23T15:15:07.290Z] info  HTTP server listening on /run/ide.sock", "[15:15:07] "]
AFTER = ["[15:15:08] Extension host agent started."]
STACK = COMPLAINT.index("  tries: [")
# Processes that the editor starts, whose output it hands on: only the first line tells whose it is.
PREFIXES = (
    "[IPC Library: Pty Host] ",
    "[IPC Library: Agent Host] ",
    "[15:15:09] [127.0.0.1][81f74bcb][ExtensionHostConnection] <18329><stderr> ",
)


def kept(lines: list[str]) -> list[str]:
    found: list[str] = []
    noise = NoiseFilter(found.append)
    for line in lines:
        noise.feed(line)
    noise.close()
    return found


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([*BEFORE, *COMPLAINT, *AFTER], [*BEFORE, *AFTER]),
        ([*COMPLAINT, *COMPLAINT, *AFTER], AFTER),
        ([*COMPLAINT, *ANOTHER_ERROR], ANOTHER_ERROR),
        ([*OTHER_MODULE, *AFTER], [*OTHER_MODULE, *AFTER]),
        ([BEGINS, *COMPLAINT, *AFTER], [BEGINS, *AFTER]),
        # Its properties are not printed everywhere, and a process may end in the middle.
        ([*COMPLAINT[:STACK], *AFTER, *ANOTHER_ERROR], [*AFTER, *ANOTHER_ERROR]),
        ([*COMPLAINT[:2], *BEFORE], BEFORE),
        ([*AFTER, BEGINS], [*AFTER, BEGINS]),
    ],
)
def test_only_the_complaint_is_dropped(lines: list[str], expected: list[str]) -> None:
    assert kept(lines) == expected


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_complaint_of_another_process_is_dropped(prefix: str) -> None:
    assert kept([*BEFORE, prefix + BEGINS, *COMPLAINT[1:], *AFTER]) == [*BEFORE, *AFTER]
    other = [prefix + BEGINS, *OTHER_MODULE[1:]]
    assert kept([*other, *AFTER]) == [*other, *AFTER]
