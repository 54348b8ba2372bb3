"""`manage.py audit verify` and `manage.py audit export`: the audit log, looked at and taken elsewhere."""

from __future__ import annotations

import json
import socket
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError

from accounts import selectors
from accounts.models import AuditEntry
from accounts.services import audit, sealing

# Facility 13 (log audit), severity 6 (informational): RFC 5424, section 6.2.1.
PRIORITY = 13 * 8 + 6
TIMEOUT = 10.0


class Command(BaseCommand):
    help = "Verify the audit log, or export it as JSON lines or to a syslog server."

    def add_arguments(self, parser: ArgumentParser) -> None:
        ways = parser.add_subparsers(dest="way", required=True)
        verify = ways.add_parser("verify", help="look whether an entry was altered, removed or inserted")
        verify.add_argument("--expect", help="SEQUENCE:SEAL from the log's `audit_sealed`, which must be in the chain")
        export = ways.add_parser("export", help="sealed entries, the oldest first, one JSON object on each line")
        export.add_argument("--after", type=int, default=0, help="only those behind this sequence number")
        export.add_argument("--syslog", help="send them to udp://host:port or tcp://host:port (RFC 5424) instead")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["way"] == "verify":
            self._verify(options["expect"])
        else:
            self._export(options["after"], options["syslog"])

    def _verify(self, expected: str | None) -> None:
        verdict = sealing.verify()
        if verdict.broken_at is not None:
            raise CommandError(f"The audit log was tampered with: at entry {verdict.broken_at}, {verdict.problem}.")
        if expected:
            sequence, _, seal = expected.partition(":")
            if not selectors.is_sealed(sequence, seal):
                raise CommandError(f"The audit log was made anew: entry {sequence} has another seal than it had.")
        self.stdout.write(f"{verdict.sealed} entries are as they were written, {verdict.waiting} wait for their seal.")
        self.stdout.write(f"{verdict.sealed}:{verdict.seal}")

    def _export(self, after: int, syslog: str | None) -> None:
        send, close = _syslog(syslog) if syslog else (self._print, lambda: None)
        try:
            for entry in selectors.sealed_after(after):
                send(entry)
        except OSError as error:
            raise CommandError(f"The syslog server took not all of it: {error}") from error
        finally:
            close()

    def _print(self, entry: AuditEntry) -> None:
        self.stdout.write(_line(entry))


def _line(entry: AuditEntry) -> str:
    sealed = {"sequence": entry.sequence, "seal": entry.seal, "forgotten": entry.forgotten}
    return json.dumps({**sealed, **audit.content_of(entry)})


def _syslog(address: str) -> tuple[Callable[[AuditEntry], None], Callable[[], None]]:
    """What sends an entry to a server, and what ends that. Over TCP by octet counting (RFC 6587, section 3.4.1)."""
    parts = urlsplit(address)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in {"udp", "tcp"} or not parts.hostname or not port:
        raise CommandError(f"--syslog must be udp://host:port or tcp://host:port, not {address!r}")
    tcp = parts.scheme == "tcp"
    try:
        if tcp:
            connection = socket.create_connection((parts.hostname, port), timeout=TIMEOUT)
        else:
            connection = socket.socket(socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET, socket.SOCK_DGRAM)
            connection.connect((parts.hostname, port))
    except OSError as error:
        raise CommandError(f"The syslog server cannot be reached: {error}") from error

    def send(entry: AuditEntry) -> None:
        head = f"<{PRIORITY}>1 {audit.content_of(entry)['at']} {socket.gethostname()} slipway - {entry.action} -"
        message = f"{head} {_line(entry)}".encode()
        connection.sendall(b"%d %s" % (len(message), message) if tcp else message)

    return send, connection.close
