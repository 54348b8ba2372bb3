"""File descriptors: as many as the system gives, and no more connections than they are good for."""

from __future__ import annotations

import contextlib
import dataclasses
import resource

from gateway.config import Config

# What the process itself has open: listeners, logs, Redis, questions to web.
_SPARE = 128


def raise_limit() -> int:
    """Raise the soft limit to the hard one; returns how many descriptors this process may have.

    Soft limits are often 1,024 for the sake of programs that use `select`, which this one does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems report an unlimited hard limit and accept less.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft if soft != resource.RLIM_INFINITY else 1 << 20


def fitted(config: Config, descriptors: int) -> Config:
    """The settings with no more connections than `descriptors` allow.

    Each connection needs two, its own and the one to its upstream. Where they run out, nobody gets in and not even web
    can be asked: refusing one connection more is better. Agents get a quarter at most.
    """
    pairs = max(descriptors - _SPARE, 16) // 2
    agents = min(config.max_agent_connections, pairs // 4)
    most = min(config.max_connections, pairs - agents)
    return dataclasses.replace(config, max_connections=most, max_agent_connections=agents)
