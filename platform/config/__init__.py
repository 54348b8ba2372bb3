"""The composition root: settings, addresses, processes. It imports the apps; nobody imports it."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
