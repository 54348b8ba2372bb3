"""`manage.py up`: the whole platform on one machine, in the foreground."""

from __future__ import annotations

import os
import shutil
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from accounts.services import links
from config import ide
from config.processes import environment, services
from config.supervisor import CannotStart, Supervisor, free_port, only_one, own_folder


class Command(BaseCommand):
    help = "Start everything on this machine and print a link to sign in with. Ctrl-C ends it; workspaces go on."
    requires_system_checks: Any = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-link", action="store_true", help="do not make a sign-in link")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._run(link=not options["no_link"])
        except (CannotStart, ImproperlyConfigured, ide.NotInstalled) as error:
            raise CommandError(str(error)) from error

    def _say(self, text: str) -> None:
        self.stderr.write(text)

    def _run(self, *, link: bool) -> None:
        began = time.monotonic()
        env = settings.ENVIRONMENT
        for folder, mode in (
            (env.home, 0o755),
            (env.run, 0o711),
            (env.run / "agents", 0o755),
            (env.home / "log", 0o700),
            (env.home / "static", 0o755),
        ):
            own_folder(folder, mode)
        with only_one(env.home):
            if env.runtime == "local":
                ide.install(env.home, self._say)
            free_port(env.port)
            self._keep_private()
            self._migrate()
            owner = links.ensure_owner()
            self._clear(env.run)
            self._warn()
            supervisor = Supervisor(
                services(env, os.environ), environment(env), home=env.home, root=settings.BASE_DIR, say=self._say
            )
            supervisor.install_signals()
            try:
                self._say("Starting …")
                if supervisor.start():
                    self._welcome(began, links.create_sign_in_link(user=owner, now=timezone.now()) if link else "")
                    connection.close()
                    supervisor.watch()
            finally:
                supervisor.stop()
                self._say("Stopped. Workspaces that were running go on, and are found again at the next start.")

    @staticmethod
    def _clear(run: Path) -> None:
        """Remove what the last start's processes left for each other."""
        (run / "worker.ready").unlink(missing_ok=True)
        shutil.rmtree(run / "metrics", ignore_errors=True)
        (run / "metrics").mkdir()

    @staticmethod
    def _keep_private() -> None:
        """Sessions are in the database: its file is ours alone, and SQLite gives its companions the same mode."""
        database = settings.DATABASES["default"]
        if database["ENGINE"].endswith("sqlite3"):
            os.close(os.open(database["NAME"], os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            Path(database["NAME"]).chmod(0o600)

    def _migrate(self) -> None:
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            self._say("Preparing the database …")
            call_command("migrate", interactive=False, verbosity=0)

    def _warn(self) -> None:
        env = settings.ENVIRONMENT
        if env.runtime == "local" and not self._sandboxed():
            self._say(
                "Warning: bubblewrap is missing or does not work here, so workspaces run WITHOUT A SANDBOX, with all\n"
                "rights of this account. Install it (`apt-get install bubblewrap`) and start again."
            )

    def _sandboxed(self) -> bool:
        from workspaces.services.runtimes import runtime  # noqa: PLC0415 - Only this runtime can say.

        return bool(getattr(runtime(), "sandboxed", True))

    def _welcome(self, began: float, secret: str) -> None:
        portal = settings.ENVIRONMENT.portal_url
        self._say(f"Slipway is up after {time.monotonic() - began:.1f} s at {portal} (Ctrl-C ends it)")
        if secret:
            self._say("Sign in once with this link, within an hour; `make sign-in` makes a new one:")
            self.stdout.write(f"{portal}/sign-in/link?key={secret}")
            self.stdout.flush()
