"""`python -m gateway`: runs until SIGTERM or SIGINT; the second signal ends it at once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys

import structlog
import uvloop

from gateway.config import Config, ConfigError, read
from gateway.descriptors import fitted, raise_limit
from gateway.service import Gateway


def main() -> int:
    """Run the gateway; returns the exit code: 0 after a drain, 1 when told twice, 2 for a wrong setting."""
    try:
        config = read()
    except ConfigError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return 2
    _log_to_stderr(config.log_level)
    config = fitted(config, raise_limit())
    # What was imported stays: keeping it out of collections makes them short.
    gc.collect()
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(config))


async def _run(config: Config) -> int:
    gateway = Gateway(config)
    stop, now = asyncio.Event(), asyncio.Event()

    def told() -> None:
        (now if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    try:
        await gateway.open()
    except OSError as error:
        sys.stderr.write(f"gateway: cannot listen: {error}\n")
        await gateway.close()
        return 2
    await stop.wait()
    drain = asyncio.create_task(gateway.drain())
    second = asyncio.create_task(now.wait())
    await asyncio.wait((drain, second), return_when=asyncio.FIRST_COMPLETED)
    if drain.done():
        second.cancel()
        drain.result()
        return 0
    drain.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await drain
    await gateway.close()
    return 1


def _log_to_stderr(level: str) -> None:
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


if __name__ == "__main__":
    sys.exit(main())
