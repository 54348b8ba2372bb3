"""`manage.py create_token USER --scopes read,workspaces`: prints a token and nothing else."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import User
from accounts.services import tokens
from kernel.errors import Invalid


class Command(BaseCommand):
    help = "Make an API token for a user and print it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="user name; the embedded owner is admin")
        parser.add_argument("--scopes", required=True, help="comma-separated: read, workspaces, admin")
        parser.add_argument("--name", default="command line", help="what to call it in lists")
        parser.add_argument("--days", type=float, default=90, help="days until it expires, at most 366")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {options['user']!r}.")
        try:
            life = timedelta(days=options["days"])
        except (ValueError, OverflowError) as error:
            raise CommandError("--days must be a number of days from 1 to 366.") from error
        try:
            _, secret = tokens.create_token(
                user=user,
                name=options["name"],
                scopes=options["scopes"].split(","),
                life=life,
                now=timezone.now(),
            )
        except Invalid as failure:
            raise CommandError(f"{failure.user_text} {failure.next_step}") from failure
        self.stdout.write(secret)
