"""Django's entry for the app."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Who."""

    name = "accounts"

    def ready(self) -> None:
        """Register tasks by name, describe tokens in the schema, and tell gateways when somebody signs out."""
        from accounts import schema, signals, tasks  # noqa: F401, PLC0415 - Models must be loaded first.
