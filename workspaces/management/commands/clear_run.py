"""`manage.py clear_run SLUG`: ends by force what is left of a workspace's run; its files stay."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kernel.errors import Failure
from workspaces.operator.clear import clear_run
from workspaces.services.runtimes import runtime


class Command(BaseCommand):
    help = "End by force what is left of a workspace's run, where Slipway cannot tell whether it runs. Its files stay."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="The first part of the workspace's address, such as rocket-bcdfg.")

        parser.add_argument(
            "--machine-is-off",
            action="store_true",
            help="The machine that it ran on is gone for good, and you have made sure that it is off.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            workspace = clear_run(options["slug"], runtime(), machine_is_off=options["machine_is_off"])
        except Failure as failure:
            raise CommandError(f"{failure.user_text} {failure.next_step} ({failure.log_text})") from failure
        self.stdout.write(f"{workspace.slug} has no run any more. Its files are kept.")
