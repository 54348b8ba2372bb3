"""What the processes of `manage.py up` are started with."""

from __future__ import annotations

from pathlib import Path

from config import env as settings
from config.processes import Service, environment, services
from gateway import config as edge


def _gateway(env: settings.Environment) -> Service:
    return next(service for service in services(env, {}) if service.name == "gateway")


def _as_started(env: settings.Environment, **given: str) -> edge.Config:
    """The gateway's settings as its process reads them."""
    service = _gateway(env)
    assert service.command[1:3] == ("-m", "gateway")
    return edge.read(service.command[3:], {**environment(env), **given, **service.variables})


def test_the_gateway_has_the_secret_that_web_has(tmp_path: Path) -> None:
    kept = settings.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_INTERNAL_SECRET": ""})
    assert _as_started(kept).secret == kept.internal_secret
    # Given later on, it counts for both, though the one of the first start is still there.
    given = {"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_INTERNAL_SECRET": "given"}
    assert _as_started(settings.read(given), **given).secret == "given"
    (tmp_path / "file").write_text("from a file\n")
    given = {"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_INTERNAL_SECRET_FILE": str(tmp_path / "file")}
    assert _as_started(settings.read(given), **given).secret == "from a file"


def test_no_secret_stands_on_a_command_line(tmp_path: Path) -> None:
    env = settings.read(
        {
            "SLIPWAY_HOME": str(tmp_path),
            "REDIS_URL": "redis://:hush-redis@127.0.0.1:1/0",
            "DATABASE_URL": "postgres://slipway:hush-postgres@127.0.0.1:1/slipway",
            "SLIPWAY_INTERNAL_SECRET": "hush-internal",
            "SLIPWAY_SECRET_KEY": "hush-key",
            "SLIPWAY_GITHUB_TOKEN": "hush-github",
        }
    )
    assert "hush" not in str([service.command for service in services(env, {})])
    assert _as_started(env).redis_url == env.redis_url


def test_only_a_cluster_has_an_operator(tmp_path: Path) -> None:
    def names(**given: str) -> list[str]:
        return [service.name for service in services(settings.read({"SLIPWAY_HOME": str(tmp_path), **given}), {})]

    options = tmp_path / "options.yaml"
    options.write_text("image: registry.example/workspace:1\n")
    assert "operator" in names(SLIPWAY_RUNTIME="k8s", SLIPWAY_KUBERNETES_OPTIONS=str(options))
    assert "operator" not in names(SLIPWAY_RUNTIME="local")


def test_the_gateway_knows_the_proxies_in_front_of_it(tmp_path: Path) -> None:
    def started(value: str) -> list[str]:
        env = settings.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_TRUSTED_PROXIES": value})
        return [str(network) for network in _as_started(env).trusted_proxies]

    assert started("") == []
    assert started(" 127.0.0.1, 10.0.0.0/8,::1") == ["127.0.0.1/32", "10.0.0.0/8", "::1/128"]
