"""`manage.py sign_in_link [USER]`: prints a link that signs a user in once."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import User
from accounts.services import links


class Command(BaseCommand):
    help = "Print a link that signs a user in once, within an hour."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", nargs="?", default=links.OWNER)

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["user"], is_active=True).first()
        if user is None:
            raise CommandError(f"There is no active user {options['user']!r}.")
        secret = links.create_sign_in_link(user=user, now=timezone.now())
        self.stdout.write(f"{settings.ENVIRONMENT.portal_url}/sign-in/link?key={secret}")
