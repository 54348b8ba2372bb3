"""Every setting that comes from outside, read in this one place and checked when the process starts.

A secret `NAME` may also be given as `NAME_FILE`, the path of a file that holds it. README lists all of them; a test
compares that list with the fields below.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import os
import re
import secrets
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
import yaml
from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parents[2]
# A Unix socket's address holds 108 bytes (unix(7)), and a workspace adds up to 60 of its own below the run folder.
LONGEST_RUN_DIR = 39


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The validated environment. Each field's metadata names its variable and says what it means."""

    home: Path
    run: Path
    port: int
    portal_url: str
    trusted_proxies: str
    database_url: str
    redis_url: str
    secret_key: str = dataclasses.field(repr=False)
    internal_secret: str = dataclasses.field(repr=False)
    debug: bool
    web_workers: int
    web_hosts: tuple[str, ...]
    worker_threads: int
    probes_listen: str
    agents_listen: str
    operator_listen: str
    orphan_grace: float
    runtime: str
    kubernetes_options: dict[str, Any] = dataclasses.field(repr=False)
    dev_cluster_options: dict[str, Any] = dataclasses.field(repr=False)
    sandbox: str
    workspace_cpu: float
    workspace_memory: int
    workspace_processes: int
    github_api_url: str
    github_url: str
    github_token: str = dataclasses.field(repr=False)
    allow_file_repositories: bool
    provider_timeout: float
    lookups_per_minute: int
    start_timeout: float
    schedule_timeout: float
    stop_timeout: float
    stop_grace: float
    trash_days: int
    trash_copies: int
    max_workspaces: int
    audit_days: int
    audit_access_days: int
    log_format: str

    @property
    def domain(self) -> str:
        """The host that the portal lives on and workspaces live under."""
        return urlsplit(self.portal_url).hostname or "localhost"


# Name, default and meaning of each variable: what README documents.
# ruff: noqa: E501 - One line per variable reads best.
VARIABLES: dict[str, tuple[str, str]] = {
    "SLIPWAY_HOME": ("./var", "Data folder: database, workspaces, the editor's installation."),
    "SLIPWAY_PORT": ("8000", "TCP port of the gateway, on 127.0.0.1."),
    "SLIPWAY_PORTAL_URL": ("http://localhost:$SLIPWAY_PORT", "Where people reach the portal; workspaces are hosts below it."),
    "SLIPWAY_TRUSTED_PROXIES": ("none", "Proxies in front of the gateway, such as 127.0.0.1,10.0.0.0/8, whose X-Forwarded-For says who the client is; to be set where TLS ends in one."),
    "DATABASE_URL": ("sqlite in SLIPWAY_HOME", "The database; postgres://user@host/name for PostgreSQL."),
    "REDIS_URL": ("embedded Valkey", "Broker, cache and pub/sub; redis:// or unix://."),
    "SLIPWAY_SECRET_KEY": ("made at first start", "Signs sessions and seals cookies. May come as SLIPWAY_SECRET_KEY_FILE."),
    "SLIPWAY_INTERNAL_SECRET": ("made at first start", "Shared by gateway and web. May come as SLIPWAY_INTERNAL_SECRET_FILE."),
    "SLIPWAY_DEBUG": ("false", "Django's debug pages; never where others can reach it."),
    "SLIPWAY_WEB_WORKERS": ("1", "Web worker processes, 1 to 64."),
    "SLIPWAY_WEB_HOSTS": ("none", "Further names and addresses, separated by commas, by which our own processes ask web: a pod's, for its metrics."),
    "SLIPWAY_WORKER_THREADS": ("8", "Threads of the control worker, 1 to 256."),
    "SLIPWAY_PROBES_LISTEN": ("none", "host:port on which worker and beat answer /healthz, /readyz and /metrics."),
    "SLIPWAY_AGENTS_LISTEN": ("none", "host:port on which the gateway takes the reports of agents on other machines; to be reached by workspaces alone."),
    "SLIPWAY_OPERATOR_LISTEN": ("127.0.0.1:8002", "host:port on which the operator answers /healthz, /readyz and /metrics."),
    "SLIPWAY_ORPHAN_GRACE": ("86400", "Seconds for which what runs in the cluster must be seen to belong to no workspace before it is removed, 0 to 31536000; 0: only report it. Volumes stay in any case."),
    "SLIPWAY_RUNTIME": ("local", "Where workspaces run: local, k8s (pods in a cluster), or fake (no processes, for work on the portal)."),
    "SLIPWAY_KUBERNETES_OPTIONS": ("none", "Path of a YAML file that says how workspaces run in a cluster; needed for k8s. docs/chart.md lists the options, as `workspaces.…`."),
    "SLIPWAY_DEV_CLUSTER_OPTIONS": ("none", "Path of a YAML file that connects a cluster in which every workspace gets a namespace and a working kubectl. docs/dev-cluster.md says how."),
    "SLIPWAY_SANDBOX": ("auto", "auto: bubblewrap where it works, else a plain process and a warning; bwrap; none."),
    "SLIPWAY_WORKSPACE_CPU": ("2", "Cores one workspace may use; 0 for no limit."),
    "SLIPWAY_WORKSPACE_MEMORY": ("4294967296", "Bytes of memory one workspace may use; 0 for no limit."),
    "SLIPWAY_WORKSPACE_PROCESSES": ("1024", "Processes and threads one workspace may have; 0 for no limit."),
    "SLIPWAY_GITHUB_API_URL": ("https://api.github.com", "GitHub's REST API; https://HOST/api/v3 for GitHub Enterprise."),
    "SLIPWAY_GITHUB_URL": ("https://github.com", "GitHub's web address, from which repositories are cloned."),
    "SLIPWAY_GITHUB_TOKEN": ("none", "Token for private repositories and a higher rate limit; programs in workspaces of private repositories can read it. May come as SLIPWAY_GITHUB_TOKEN_FILE."),
    "SLIPWAY_ALLOW_FILE_REPOSITORIES": ("false", "Allow file:// URLs: whoever may sign in can then clone any repository on this machine."),
    "SLIPWAY_PROVIDER_TIMEOUT": ("6", "Seconds a repository host may take to answer, 1 to 60."),
    "SLIPWAY_LOOKUPS_PER_MINUTE": ("40", "Repositories one person may let the platform look up per minute, 1 to 1000000."),
    "SLIPWAY_START_TIMEOUT": ("300", "Seconds without progress after which a start has failed."),
    "SLIPWAY_SCHEDULE_TIMEOUT": ("900", "The same while a cluster has no machine with room for it; longer than it takes to add one."),
    "SLIPWAY_STOP_TIMEOUT": ("120", "Seconds after which a stop that does not end is reported as failed."),
    "SLIPWAY_STOP_GRACE": ("10", "Seconds between asking a workspace to end and ending it by force."),
    "SLIPWAY_TRASH_DAYS": ("14", "Days for which a deleted workspace can be restored."),
    "SLIPWAY_TRASH_COPIES": ("0", "How many workspaces in the trash may be copied at once, 0 to 100. Each is then kept as a verified copy, and its volume is freed; 0: the trash keeps volumes. docs/storage.md says what it needs, and when to turn it on."),
    "SLIPWAY_MAX_WORKSPACES": ("100", "Workspaces one person may have, those in the trash not counted."),
    "SLIPWAY_AUDIT_DAYS": ("730", "Days for which the audit log keeps what was changed, and who signed in or got a role, 1 to 36500."),
    "SLIPWAY_AUDIT_ACCESS_DAYS": ("180", "The same for who entered which workspace."),
    "SLIPWAY_LOG_FORMAT": ("console", "console or json."),
}  # fmt: skip


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name} must be between {low:g} and {high:g}, not {value:g}")


def _number(env: environ.Env, name: str, low: float, high: float) -> float:
    text = env.str(name, default="").strip() or VARIABLES[name][0]
    try:
        value = float(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a number, not {text!r}") from error
    _between(name, value, low, high)
    return value


def _flag(env: environ.Env, name: str) -> bool:
    text = (env.str(name, default="").strip() or VARIABLES[name][0]).lower()
    if text not in {"true", "false", "1", "0", "yes", "no"}:
        raise ImproperlyConfigured(f"{name} must be true or false, not {text!r}")
    return text in {"true", "1", "yes"}


def _choice(env: environ.Env, name: str, *choices: str) -> str:
    text = env.str(name, default="").strip() or VARIABLES[name][0]
    if text not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {text!r}")
    return text


def _secret(env: environ.Env, name: str) -> str:
    path = env.str(f"{name}_FILE", default="")
    if not path:
        return str(env.str(name, default=""))
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error.strerror}") from error


def _kept_secret(env: environ.Env, name: str, path: Path) -> str:
    """The secret from outside, else the one kept in the data folder, else a new one that is kept from now on.

    Several processes may start at once: the file is written apart and linked into place, so the first one wins.
    """
    given = _secret(env, name)
    if given:
        return given
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(48))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            Path(draft).unlink()
    return path.read_text(encoding="utf-8").strip()


def run_folder(home: Path) -> Path:
    """Where sockets live: below the data folder, or in the temp folder where that path would be too long for them."""
    below = home / "run"
    if len(os.fsencode(below)) <= LONGEST_RUN_DIR:
        return below
    tag = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    # Not the process's own idea of a temp folder: workspaces that run must find the same place after a restart.
    return Path("/tmp") / f"slipway-{os.getuid()}-{tag}"  # noqa: S108 - `manage.py up` refuses one that is not ours.


def _url(env: environ.Env, name: str, default: str) -> str:
    value = (env.str(name, default="").strip() or default).rstrip("/")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ImproperlyConfigured(f"{name} must be an http or https address, not {value!r}")
    return value


def _address(env: environ.Env, name: str) -> str:
    """`host:port`, an IPv6 address in brackets; empty for none, where that is the default."""
    default = VARIABLES[name][0]
    value = str(env.str(name, default="").strip()) or ("" if default == "none" else default)
    host, _, port = value.rpartition(":")
    if value and not (host and port.isdecimal() and 0 < int(port) < 65_536):
        raise ImproperlyConfigured(f"{name} must be host:port, not {value!r}")
    return value


def _mapping(env: environ.Env, name: str, *, needed: bool) -> dict[str, Any]:
    """What stands in the YAML file that the variable names."""
    path = env.str(name, default="").strip()
    if not path:
        if needed:
            raise ImproperlyConfigured(f"{name} is missing: give the path of a YAML file")
        return {}
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ImproperlyConfigured(f"{name} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{name} is not valid YAML: {error}") from error
    if not isinstance(found, dict):
        raise ImproperlyConfigured(f"{name} must hold a mapping of options, such as `image: registry/workspace`")
    return found


def _networks(env: environ.Env, name: str) -> str:
    """Addresses and networks, separated by commas."""
    parts = [part.strip() for part in env.str(name, default="").split(",") if part.strip()]
    for part in parts:
        try:
            ipaddress.ip_network(part)
        except ValueError as error:
            raise ImproperlyConfigured(
                f"{name} must be addresses or networks such as 127.0.0.1,10.0.0.0/8, not {part!r}"
            ) from error
    return ",".join(parts)


def _hosts(env: environ.Env, name: str) -> tuple[str, ...]:
    """Names and addresses, separated by commas; an IPv6 address as it stands in a Host field."""
    parts = [part.strip() for part in env.str(name, default="").split(",") if part.strip()]
    hosts = [f"[{part}]" if ":" in part else part for part in (part.strip("[]") for part in parts)]
    for host in hosts:
        if not re.fullmatch(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]", host):
            raise ImproperlyConfigured(f"{name} must be names or addresses, separated by commas, not {host!r}")
    return tuple(hosts)


def read(overrides: dict[str, str] | None = None) -> Environment:
    """Read and check the process's environment.

    Raises:
        ImproperlyConfigured: a value is missing, malformed or out of range; the message names it.
    """
    env = environ.Env()
    env.ENVIRON = {**os.environ, **(overrides or {})}
    home = Path(env.str("SLIPWAY_HOME", default="") or ROOT / "var").expanduser().resolve()
    run = run_folder(home)
    port = int(_number(env, "SLIPWAY_PORT", 1, 65535))
    values: dict[str, Any] = {
        "home": home,
        "run": run,
        "port": port,
        "portal_url": _url(env, "SLIPWAY_PORTAL_URL", f"http://localhost:{port}"),
        "trusted_proxies": _networks(env, "SLIPWAY_TRUSTED_PROXIES"),
        "database_url": env.str("DATABASE_URL", default="") or f"sqlite:///{home / 'slipway.sqlite3'}",
        "redis_url": env.str("REDIS_URL", default="") or f"unix://{run / 'valkey.sock'}",
        "secret_key": _kept_secret(env, "SLIPWAY_SECRET_KEY", home / "secrets" / "secret_key"),
        "internal_secret": _kept_secret(env, "SLIPWAY_INTERNAL_SECRET", home / "secrets" / "internal_secret"),
        "debug": _flag(env, "SLIPWAY_DEBUG"),
        "web_workers": int(_number(env, "SLIPWAY_WEB_WORKERS", 1, 64)),
        "web_hosts": _hosts(env, "SLIPWAY_WEB_HOSTS"),
        "worker_threads": int(_number(env, "SLIPWAY_WORKER_THREADS", 1, 256)),
        "probes_listen": _address(env, "SLIPWAY_PROBES_LISTEN"),
        "agents_listen": _address(env, "SLIPWAY_AGENTS_LISTEN"),
        "operator_listen": _address(env, "SLIPWAY_OPERATOR_LISTEN"),
        "orphan_grace": _number(env, "SLIPWAY_ORPHAN_GRACE", 0, 31_536_000),
        "runtime": (runtime := _choice(env, "SLIPWAY_RUNTIME", "local", "k8s", "fake")),
        "kubernetes_options": _mapping(env, "SLIPWAY_KUBERNETES_OPTIONS", needed=runtime == "k8s"),
        "dev_cluster_options": _mapping(env, "SLIPWAY_DEV_CLUSTER_OPTIONS", needed=False),
        "sandbox": _choice(env, "SLIPWAY_SANDBOX", "auto", "bwrap", "none"),
        "workspace_cpu": _number(env, "SLIPWAY_WORKSPACE_CPU", 0, 1024),
        "workspace_memory": int(_number(env, "SLIPWAY_WORKSPACE_MEMORY", 0, 2**44)),
        "workspace_processes": int(_number(env, "SLIPWAY_WORKSPACE_PROCESSES", 0, 2**22)),
        "github_api_url": _url(env, "SLIPWAY_GITHUB_API_URL", VARIABLES["SLIPWAY_GITHUB_API_URL"][0]),
        "github_url": _url(env, "SLIPWAY_GITHUB_URL", VARIABLES["SLIPWAY_GITHUB_URL"][0]),
        "github_token": _secret(env, "SLIPWAY_GITHUB_TOKEN"),
        "allow_file_repositories": _flag(env, "SLIPWAY_ALLOW_FILE_REPOSITORIES"),
        "provider_timeout": _number(env, "SLIPWAY_PROVIDER_TIMEOUT", 1, 60),
        "lookups_per_minute": int(_number(env, "SLIPWAY_LOOKUPS_PER_MINUTE", 1, 1_000_000)),
        "start_timeout": _number(env, "SLIPWAY_START_TIMEOUT", 1, 86_400),
        "schedule_timeout": _number(env, "SLIPWAY_SCHEDULE_TIMEOUT", 1, 86_400),
        "stop_timeout": _number(env, "SLIPWAY_STOP_TIMEOUT", 1, 86_400),
        "stop_grace": _number(env, "SLIPWAY_STOP_GRACE", 0, 3_600),
        "audit_days": int(_number(env, "SLIPWAY_AUDIT_DAYS", 1, 36_500)),
        "audit_access_days": int(_number(env, "SLIPWAY_AUDIT_ACCESS_DAYS", 1, 36_500)),
        "trash_days": int(_number(env, "SLIPWAY_TRASH_DAYS", 0, 3_650)),
        "trash_copies": int(_number(env, "SLIPWAY_TRASH_COPIES", 0, 100)),
        "max_workspaces": int(_number(env, "SLIPWAY_MAX_WORKSPACES", 1, 1_000_000)),
        "log_format": _choice(env, "SLIPWAY_LOG_FORMAT", "console", "json"),
    }
    return Environment(**values)
