"""`manage.py operator`: hears what changes in the cluster, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from kernel.errors import Failure
from workspaces.operator.process import Operator, Unexpected
from workspaces.runtime.operating import Operable
from workspaces.services.runtimes import runtime

_ENDS = {signal.SIGTERM, signal.SIGINT}


def _wait(seconds: float) -> bool:
    return signal.sigtimedwait(_ENDS, seconds) is not None


class Command(BaseCommand):
    help = "Watch the cluster, and have the worker look at each workspace whose pod or volume changes."

    def handle(self, *args: Any, **options: Any) -> None:
        env = settings.ENVIRONMENT
        try:
            chosen = runtime()
            if not isinstance(chosen, Operable):
                raise CommandError(f"SLIPWAY_RUNTIME is {env.runtime}: nothing is to be watched there.")
            # Before there are threads, so that none of them gets these signals.
            signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
            Operator(chosen.operations, listen=env.operator_listen, grace=env.orphan_grace).run(_wait)
        except Failure as failure:
            raise CommandError(f"{failure.user_text} {failure.next_step} ({failure.log_text})") from failure
        except OSError as error:
            raise CommandError(f"SLIPWAY_OPERATOR_LISTEN is {env.operator_listen}: {error.strerror}") from error
        except Unexpected as error:
            raise CommandError(str(error)) from error
