"""The Celery application: queues, limits and the schedule of the sweeps."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging, worker_ready, worker_shutting_down

from config import probes
from kernel import jobs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("slipway")
app.steps["consumer"].add(probes.PulseStep)


def configuration(redis_url: str) -> dict[str, Any]:
    """Celery's settings for a broker at `redis_url`.

    Tasks are idempotent: late acknowledgement repeats the ones that a killed worker was running, and a task that
    outlives the visibility time-out merely runs twice. Celery cannot end a thread, so there is no time limit: each task
    bounds its own waits, and the one that may take minutes, emptying the trash, runs once per worker
    (`operator.actions`).
    """
    return {
        "broker_url": redis_url.replace("unix://", "redis+socket://", 1),
        "broker_connection_retry_on_startup": True,
        # A request must not hang on an absent broker: the sweep starts what could not be enqueued.
        "broker_transport_options": {"visibility_timeout": 600, "socket_timeout": 5, "socket_connect_timeout": 2},
        "task_publish_retry": False,
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_default_queue": "control",
        "task_default_priority": jobs.USUAL,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "timezone": "UTC",
        "beat_scheduler": "config.probes:Scheduler",
        "beat_schedule": {
            "sweep": {"task": "workspaces.sweep", "schedule": 5.0, "options": {"expires": 10}},
            "flush-activity": {"task": "workspaces.flush_activity", "schedule": 30.0, "options": {"expires": 60}},
            "sweep-orphans": {"task": "workspaces.sweep_orphans", "schedule": 300.0, "options": {"expires": 600}},
            "sweep-dev": {"task": "workspaces.sweep_dev_cluster", "schedule": 300.0, "options": {"expires": 600}},
            "stop-disabled": {"task": "workspaces.stop_of_disabled", "schedule": 60.0, "options": {"expires": 60}},
            "seal-audit": {"task": "accounts.seal_audit", "schedule": 60.0, "options": {"expires": 60}},
            "forget": {"task": "accounts.forget_expired", "schedule": 3600.0, "options": {"expires": 3600}},
        },
    }


@app.on_configure.connect
def _configure(sender: Celery, **_: object) -> None:
    from django.conf import settings  # noqa: PLC0415 - Celery is imported before Django is set up.

    sender.conf.update(configuration(settings.REDIS_URL))


@setup_logging.connect
def _keep_our_logging(**_: object) -> None:
    """Being connected is enough: Celery then leaves logging alone."""


@worker_ready.connect
def _say_ready(**_: object) -> None:
    """Leave a mark that `manage.py up` waits for, and answer probes."""
    from django.conf import settings  # noqa: PLC0415 - Celery is imported before Django is set up.

    (settings.ENVIRONMENT.run / "worker.ready").touch()
    probes.serve(settings.ENVIRONMENT.probes_listen, settings.REDIS_URL)


@worker_shutting_down.connect
def _say_ending(**_: object) -> None:
    """No new work comes here from now on."""
    probes.PULSE.end()


@beat_init.connect
def _beat_answers(**_: object) -> None:
    """Answer probes."""
    from django.conf import settings  # noqa: PLC0415 - Celery is imported before Django is set up.

    probes.serve(settings.ENVIRONMENT.probes_listen, settings.REDIS_URL)


app.autodiscover_tasks()
