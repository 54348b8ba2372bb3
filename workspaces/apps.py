"""Django's entry for the app."""

from django.apps import AppConfig


class WorkspacesConfig(AppConfig):
    """What."""

    name = "workspaces"

    def ready(self) -> None:
        """Register tasks by name, so that `kernel.jobs` finds them, and what is looked at before a start."""
        from workspaces import checks, signals, tasks  # noqa: F401, PLC0415 - Models must be loaded first.
