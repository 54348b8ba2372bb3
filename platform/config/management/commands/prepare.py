"""`manage.py prepare`: makes the database ready for this version; with `--only-wait` it waits until that is done."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from typing import Any

import structlog
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections
from django.db.migrations.executor import MigrationExecutor

from accounts.services import links

log = structlog.get_logger(__name__)

_PAUSE = 2.0


class Command(BaseCommand):
    help = "Wait for the database, make its tables those of this version, and make sure that there is an owner."
    # The runtime is not needed for that, nor are its rights.
    requires_system_checks: Any = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--only-wait", action="store_true", help="change nothing; wait until the tables are right")
        parser.add_argument("--seconds", type=float, default=600, help="for which to wait; default 600")

    def handle(self, *args: Any, **options: Any) -> None:
        waited = options["only_wait"]
        deadline = time.monotonic() + options["seconds"]
        while (left := self._left(missing_is_fine=not waited)) is not None:
            if time.monotonic() >= deadline:
                raise CommandError(left)
            log.info("waiting_for_database", detail=left)
            connections.close_all()
            time.sleep(_PAUSE)
        if not waited:
            call_command("migrate", interactive=False, skip_checks=True, verbosity=1)
            links.ensure_owner()

    @staticmethod
    def _left(*, missing_is_fine: bool) -> str | None:
        """What there is to wait for, if anything."""
        try:
            executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        except OperationalError as error:
            return f"the database does not answer: {error}".strip()
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        return f"{len(plan)} migrations are still to come" if plan and not missing_is_fine else None
