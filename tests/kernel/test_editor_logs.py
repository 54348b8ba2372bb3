"""The editor's log writer, in place of the native one that is not compiled."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from config import ide

WRITER = Path(ide.__file__).with_name("log_writer.js")
# As VS Code uses it: import, options, a file of a size, and files before it.
USE = """
const [, writer, file, size, count, bare, lines] = process.argv;
import(writer).then(async (module) => {
  module.setFlushOn(0);
  const logger = await module.createAsyncRotatingLogger("main", file, Number(size), Number(count));
  if (bare === "true") logger.clearFormatters(); else logger.setPattern("%Y-%m-%d %H:%M:%S.%e [%l] %v");
  for (const [level, message] of JSON.parse(lines)) logger[level](message);
  logger.flush();
  logger.drop();
  logger.info("after the end");
});
"""


def write(file: Path, lines: list[tuple[str, Any]], *, size: int = 10_000, count: int = 1, bare: bool = False) -> None:
    arguments = [str(WRITER), str(file), str(size), str(count), str(bare).lower(), json.dumps(lines)]
    subprocess.run([ide.NODE, "-e", USE, *arguments], check=True, capture_output=True, timeout=60)


def test_lines_have_a_time_and_a_level(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "remoteagent.log"
    write(file, [("debug", "no"), ("info", "grüße"), ("warn", "two\nlines")])
    write(file, [("setLevel", 0), ("trace", "now"), ("setLevel", 6), ("critical", "no")])
    text = re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", "", file.read_text(), flags=re.MULTILINE)
    assert text == "[info] grüße\n[warning] two\nlines\n[trace] now\n"


def test_output_is_written_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "output.log", [("info", "a"), ("info", "b\n")], bare=True)
    assert (tmp_path / "output.log").read_text() == "ab\n"


def test_files_are_few_and_short(tmp_path: Path) -> None:
    write(tmp_path / "a.log", [("info", str(number) * 40) for number in range(9)], size=100, count=2, bare=True)
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert found == {"a.log": "8" * 40, "a.1.log": "6" * 40 + "7" * 40, "a.2.log": "4" * 40 + "5" * 40}


def test_a_full_disk_does_not_end_the_editor() -> None:
    # Every write to it fails with ENOSPC.
    write(Path("/dev/full"), [("info", "x"), ("info", "y")])


def spdlog(home: Path) -> Path:
    """An installed editor, as far as it concerns this, and the package of its log writer."""
    ide.entry(home).parent.mkdir(parents=True)
    ide.entry(home).touch()
    package = ide.entry(home).parents[2] / "lib" / "vscode" / "node_modules" / "@vscode" / "spdlog"
    package.mkdir(parents=True)
    (package / "index.js").write_text("native")
    return package


def test_an_installed_editor_gets_it_too(tmp_path: Path) -> None:
    package = spdlog(tmp_path)
    for _ in range(2):
        ide.install(tmp_path, lambda _: None)
        assert (package / "index.js").read_bytes() == WRITER.read_bytes()
        assert [path.name for path in package.iterdir()] == ["index.js"]


def test_a_compiled_one_stays(tmp_path: Path) -> None:
    package = spdlog(tmp_path)
    (package / "build").mkdir()
    ide.install(tmp_path, lambda _: None)
    assert (package / "index.js").read_text() == "native"
