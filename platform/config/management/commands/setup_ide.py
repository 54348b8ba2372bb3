"""`manage.py setup_ide`: installs the editor that workspaces show."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from config import ide


class Command(BaseCommand):
    help = "Install code-server into the data folder, unless it is there."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ide.install(settings.ENVIRONMENT.home, lambda text: self.stderr.write(text))
        except ide.NotInstalled as error:
            raise CommandError(str(error)) from error
