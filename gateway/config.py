"""Every setting of the gateway, read from flags and the environment in this one place.

Each flag `--some-name` has the variable `SLIPWAY_GATEWAY_SOME_NAME`; the flag wins. The internal secret never comes as
a flag, because flags are visible to every user of the machine: it is read from a file or from the environment.
"""

from __future__ import annotations

import argparse
import dataclasses
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]*):[0-9]{1,5}")
PREFIX = "SLIPWAY_GATEWAY_"
PROTECTED_COOKIES = ("slipway_*", "sessionid", "csrftoken")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(ValueError):
    """A setting is missing or cannot be understood; the text names it."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What one gateway process needs to know.

    Args:
        host: address of the public listener.
        port: TCP port of the public listener; 0 lets the system choose.
        domain: workspaces are its direct sub-domains.
        portal_url: the portal as browsers see it, without a trailing slash; its scheme is that of all workspaces.
        web: the web process, `unix:/path` or `http://host:port`.
        secret: value of `X-Slipway-Internal`.
        redis_url: `unix:///path` or `redis://host:port/db`; empty runs without revocations and activity.
        agents_socket: path of the second listener, which passes `/internal/agent/*` only; empty for none.
        agents_listen: `host:port` of a listener that passes the same, for agents on other machines; empty for none. No
            TLS ends here: the network must keep out whoever may not hear it.
        admin: `unix:/path` or `host:port` of the listener for metrics and health; empty for none.
        drain_seconds: how long requests in flight may take after the first SIGTERM.
        drain_idle_seconds: how long a connection without a request is kept after that; its client may be sending one.
        drain_socket_seconds: how long WebSockets go on after that. In the second half of it they are closed one after
            the other, so that not all connect again at once.
        header_seconds: how long a client may take to send a request's head.
        body_seconds: how long a client may take to send a whole body for web.
        idle_seconds: how long an unused connection is kept, and how long an upload to a workspace may be silent.
        connect_seconds: how long connecting to an upstream may take.
        max_connections: open client connections; further ones are closed at once.
        max_agent_connections: the same for the agents' listener.
        max_connections_per_user: of those on the agents' socket, how many one account of the machine may have. The
            gateway's own account is exempt: where workspaces have none of their own, all agents run under it.
        max_header_bytes: size of a request's head, all fields together.
        max_web_body_bytes: size of the body of a request for web; it is held in memory until it is whole. Requests
            for workspaces are not limited.
        grace_seconds: how long access that was granted stays usable while web cannot be asked.
        recheck_seconds: how often access of open sockets is checked again.
        recheck_away_seconds: the same while Redis is away.
        trusted_proxies: networks whose X-Forwarded-* fields are believed; see `gateway.forwarded`.
        protected_cookies: names of the platform's cookies; a trailing `*` stands for any ending.
        log_level: name of a level of the standard library's `logging`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    domain: str = "localhost"
    portal_url: str = "http://localhost:8000"
    web: str = ""
    secret: str = dataclasses.field(default="", repr=False)
    redis_url: str = ""
    agents_socket: str = ""
    agents_listen: str = ""
    admin: str = ""
    drain_seconds: float = 10.0
    drain_idle_seconds: float = 0.0
    drain_socket_seconds: float = 0.0
    header_seconds: float = 15.0
    body_seconds: float = 30.0
    idle_seconds: float = 75.0
    connect_seconds: float = 5.0
    max_connections: int = 10_000
    max_agent_connections: int = 1_000
    max_connections_per_user: int = 16
    max_header_bytes: int = 65_536
    max_web_body_bytes: int = 131_072
    grace_seconds: float = 60.0
    recheck_seconds: float = 30.0
    recheck_away_seconds: float = 3.0
    trusted_proxies: tuple[Network, ...] = ()
    protected_cookies: tuple[str, ...] = PROTECTED_COOKIES
    log_level: str = "info"

    @property
    def scheme(self) -> str:
        """`http` or `https`, as browsers see it."""
        return urlsplit(self.portal_url).scheme

    @property
    def portal_netloc(self) -> str:
        """The portal's host and port."""
        return urlsplit(self.portal_url).netloc


_NUMBERS = {
    "port": int,
    "drain_seconds": float,
    "drain_idle_seconds": float,
    "drain_socket_seconds": float,
    "header_seconds": float,
    "body_seconds": float,
    "idle_seconds": float,
    "connect_seconds": float,
    "max_connections": int,
    "max_agent_connections": int,
    "max_connections_per_user": int,
    "max_header_bytes": int,
    "max_web_body_bytes": int,
    "grace_seconds": float,
    "recheck_seconds": float,
    "recheck_away_seconds": float,
}
_LISTS = ("trusted_proxies", "protected_cookies")


def read(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> Config:
    """Read the settings.

    Args:
        arguments: flags without the program's name; those of this process when None.
        environment: variables to fall back to.

    Raises:
        ConfigError: a value is missing or malformed.
        SystemExit: argparse met an unknown flag, or was asked for help.
    """
    flags = vars(_parser().parse_args(arguments))
    values: dict[str, object] = {}
    for field in dataclasses.fields(Config):
        if field.name == "secret":
            continue
        given = flags.get(field.name) or environment.get(PREFIX + field.name.upper())
        if given:
            values[field.name] = _convert(field.name, given)
    values["secret"] = _secret(flags.get("secret_file"), environment)
    return _checked(Config(**values))  # type: ignore[arg-type]  # Each value was converted for its own field.


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="Slipway's edge: routes, authorises and relays.")
    for field in dataclasses.fields(Config):
        if field.name != "secret":
            help_text = f"default {field.default!r}" if field.default != "" else None
            parser.add_argument("--" + field.name.replace("_", "-"), help=help_text)
    parser.add_argument("--secret-file", help="file with the secret shared with web")
    return parser


def _convert(name: str, given: str) -> object:
    try:
        if name in _NUMBERS:
            return _NUMBERS[name](given)
        if name == "trusted_proxies":
            return tuple(ipaddress.ip_network(part.strip()) for part in given.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"{name}: {given!r} is not a valid value") from error
    if name in _LISTS:
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return given


def _secret(path: str | None, environment: Mapping[str, str]) -> str:
    path = path or environment.get(PREFIX + "SECRET_FILE") or environment.get("SLIPWAY_INTERNAL_SECRET_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="ascii").strip()
        except OSError as error:
            raise ConfigError(f"secret_file: cannot read {path!r}: {error.strerror}") from error
    return environment.get("SLIPWAY_INTERNAL_SECRET", "")


def _checked(config: Config) -> Config:
    if not config.web.startswith(("unix:/", "http://")):
        raise ConfigError("web: give unix:/path or http://host:port")
    if config.agents_listen and not _HOST_AND_PORT.fullmatch(config.agents_listen):
        raise ConfigError("agents_listen: give host:port, an IPv6 address in brackets")
    if not config.secret:
        raise ConfigError("secret: give --secret-file or SLIPWAY_INTERNAL_SECRET")
    if config.scheme not in ("http", "https") or not config.portal_netloc:
        raise ConfigError("portal_url: give http://host[:port] or https://host[:port]")
    return dataclasses.replace(
        config, domain=config.domain.lower().strip("."), portal_url=config.portal_url.rstrip("/")
    )
