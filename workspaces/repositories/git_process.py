"""How git is run against an address that somebody typed: no prompts, no helpers, no redirects, nobody's rights."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from kernel.errors import ClusterFault
from workspaces.repositories import processes
from workspaces.repositories.processes import Output

MAX_KNOWN_HOSTS_BYTES = 1024 * 1024
"""Some thousand servers. Whoever may name an address adds to the file; a full one begins anew."""

MAX_MEMORY_BYTES = 256 * 1024 * 1024
"""Of each of git's processes: they keep a listing whole before they print it. Holds more than a million branches."""

MAX_OUTPUT_BYTES = 8 * 1024 * 1024

# Set before git begins, the limit holds for every process that it starts. Where a lower one holds already, that stays.
_LIMITED = ("/bin/sh", "-c", f'ulimit -d {MAX_MEMORY_BYTES // 1024} 2>/dev/null; exec "$@"', "sh")


@dataclasses.dataclass(frozen=True, slots=True)
class Git:
    """How git is run: as nobody in particular, so that an address gets no more than what it shows to everybody.

    Attributes:
        protocols: what git itself may speak, whatever an address or a redirect says.
        home: takes the place of the account's own home, whose ~/.netrc, keys and settings are the operator's. Made when
            it is missing; ssh keeps there which servers it has seen.
        connect_timeout: seconds for ssh to reach a server.
    """

    protocols: Sequence[str]
    home: Path
    connect_timeout: int = 5

    def run(self, arguments: Sequence[str], *, timeout: float, max_lines: int, trace: bool = False) -> Output:
        """Run `git <arguments>` and collect up to `max_lines` lines.

        Args:
            trace: let the error output tell of each header that a server sends.

        Raises:
            TimedOutError: after `timeout` seconds.
            ClusterFault: `git_missing`.
        """
        program = shutil.which("git")
        if program is None:
            raise ClusterFault(
                "git_missing", "Git is not installed on the server.", "Ask the administrator to install git."
            )
        # Whoever answers an address that was checked must not choose another one that was not.
        options = ["-c", "credential.helper=", "-c", "http.followRedirects=false"]
        environment = self._environment(program) | (
            {"GIT_TRACE_CURL": "1", "GIT_TRACE_CURL_NO_DATA": "1"} if trace else {}
        )
        return processes.run(
            [*_LIMITED, program, *options, *arguments],
            environment=environment,
            timeout=timeout,
            max_lines=max_lines,
            max_bytes=MAX_OUTPUT_BYTES,
        )

    def _environment(self, program: str) -> dict[str, str]:
        return {
            "PATH": f"{Path(program).parent}{os.pathsep}{os.defpath}",
            "HOME": str(self.home),
            # Messages are told apart by their words.
            "LC_ALL": "C",
            "GIT_ALLOW_PROTOCOL": ":".join(self.protocols),
            "GIT_TERMINAL_PROMPT": "0",
            # An answer to every question for a user name or password: nothing.
            "GIT_ASKPASS": "true",
            "SSH_ASKPASS": "true",
            "GIT_SSH_COMMAND": self._ssh(),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def _ssh(self) -> str:
        # ssh asks the system for the account's home and passes HOME over: each thing that lies there is named.
        known_hosts = str(self._known_hosts()).replace("%", "%%")
        options = [
            *("BatchMode=yes", "NumberOfPasswordPrompts=0", f"ConnectTimeout={self.connect_timeout}"),
            *("IdentitiesOnly=yes", "IdentityFile=none", "IdentityAgent=none"),
            *("StrictHostKeyChecking=accept-new", f'UserKnownHostsFile="{known_hosts}"'),
        ]
        return shlex.join(["ssh", "-F", os.devnull, *(part for option in options for part in ("-o", option))])

    def _known_hosts(self) -> Path:
        file = self.home / "known_hosts"
        # Without the folder git has no home at all, which is as good; ssh then remembers nothing.
        with contextlib.suppress(OSError):
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if file.stat().st_size > MAX_KNOWN_HOSTS_BYTES:
                file.unlink()
        return file
