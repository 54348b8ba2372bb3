"""`python -m tests.with_postgres [pytest arguments]`: runs pytest on a PostgreSQL made for it, and removes that again.

PostgreSQL refuses to run as root: then its own account `postgres` is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def binaries() -> Path | None:
    """The folder with initdb and pg_ctl, of the newest version installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return found[-1] if found and (found[-1] / "initdb").exists() else None


def _as_postgres(command: list[str]) -> list[str]:
    return ["runuser", "-u", "postgres", "--", *command] if os.getuid() == 0 else command


@contextmanager
def postgres(address: str = "", port: int = 5432, *, clients: str = "") -> Iterator[str]:
    """A server without durability; yields the URL of its database.

    Args:
        address: where it listens; empty for a Unix socket alone.
        port: TCP port there.
        clients: network (CIDR) of those who may come to that address, without a password.
    """
    bin_folder = binaries()
    if bin_folder is None:
        raise FileNotFoundError("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp(prefix="slpg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        data = folder / "data"
        run: dict[str, Any] = {"check": True, "cwd": folder, "stdout": subprocess.DEVNULL}
        initdb = [str(bin_folder / "initdb"), "-D", str(data), "-U", "slipway", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run(_as_postgres(initdb), **run)
        if clients:
            with (data / "pg_hba.conf").open("a", encoding="ascii") as rules:
                rules.write(f"host all all {clients} trust\n")
        options = f"-k {folder} -h '{address}' -p {port} -c fsync=off -c full_page_writes=off -c max_connections=200"
        control = [str(bin_folder / "pg_ctl"), "-D", str(data), "-w", "-s"]
        subprocess.run(_as_postgres([*control, "-o", options, "-l", str(folder / "log"), "start"]), **run)
        try:
            host = f"{address}:{port}" if address else f"%2F{str(folder)[1:].replace('/', '%2F')}"
            yield f"postgres://slipway@{host}/postgres"
        finally:
            subprocess.run(_as_postgres([*control, "-m", "immediate", "stop"]), **{**run, "check": False})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run pytest inside."""
    required = "postgres" in os.environ.get("SLIPWAY_TEST_REQUIRE", "").split(",")
    if binaries() is None:
        sys.stderr.write("The tests on PostgreSQL are left out: install Debian's postgresql\n")
        return 1 if required else 0
    with postgres() as url:
        environment = {**os.environ, "SLIPWAY_TEST_DATABASE_URL": url}
        return subprocess.run([sys.executable, "-m", "pytest", *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
