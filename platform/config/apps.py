"""Django's entry for the composition root: it carries the commands that run the platform."""

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Commands only."""

    name = "config"
