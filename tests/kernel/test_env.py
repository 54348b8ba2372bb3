"""The environment: read in one place, refused in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config import env

ROOT = Path(__file__).resolve().parents[2]

BAD: list[tuple[str, str]] = [
    ("SLIPWAY_PORT", "0"),
    ("SLIPWAY_PORT", "65536"),
    ("SLIPWAY_PORT", "eighty"),
    ("SLIPWAY_PORT", "nan"),
    ("SLIPWAY_PORTAL_URL", "localhost:8000"),
    ("SLIPWAY_PORTAL_URL", "ftp://example.com"),
    ("SLIPWAY_PORTAL_URL", "https://"),
    ("SLIPWAY_TRUSTED_PROXIES", "127.0.0.1, everybody"),
    ("SLIPWAY_TRUSTED_PROXIES", "10.0.0.1/8"),
    ("SLIPWAY_DEBUG", "maybe"),
    ("SLIPWAY_WEB_WORKERS", "0"),
    ("SLIPWAY_WEB_HOSTS", "web,*"),
    ("SLIPWAY_WEB_HOSTS", "http://web"),
    ("SLIPWAY_WORKER_THREADS", "-1"),
    ("SLIPWAY_PROBES_LISTEN", "8003"),
    ("SLIPWAY_AGENTS_LISTEN", "7400"),
    ("SLIPWAY_AGENTS_LISTEN", "0.0.0.0:agents"),
    ("SLIPWAY_OPERATOR_LISTEN", "8002"),
    ("SLIPWAY_ORPHAN_GRACE", "-1"),
    ("SLIPWAY_AUDIT_DAYS", "0"),
    ("SLIPWAY_AUDIT_ACCESS_DAYS", "for ever"),
    ("SLIPWAY_ORPHAN_GRACE", "a day"),
    ("SLIPWAY_RUNTIME", "docker"),
    ("SLIPWAY_KUBERNETES_OPTIONS", "/nonexistent/file"),
    ("SLIPWAY_DEV_CLUSTER_OPTIONS", "/nonexistent/file"),
    ("SLIPWAY_SANDBOX", "yes"),
    ("SLIPWAY_WORKSPACE_CPU", "-1"),
    ("SLIPWAY_WORKSPACE_CPU", "inf"),
    ("SLIPWAY_WORKSPACE_MEMORY", "4G"),
    ("SLIPWAY_WORKSPACE_PROCESSES", "many"),
    ("SLIPWAY_GITHUB_API_URL", "api.github.com"),
    ("SLIPWAY_GITHUB_URL", "/github"),
    ("SLIPWAY_ALLOW_FILE_REPOSITORIES", "2"),
    ("SLIPWAY_PROVIDER_TIMEOUT", "0"),
    ("SLIPWAY_START_TIMEOUT", "0"),
    ("SLIPWAY_SCHEDULE_TIMEOUT", "0"),
    ("SLIPWAY_STOP_TIMEOUT", "forever"),
    ("SLIPWAY_STOP_GRACE", "-1"),
    ("SLIPWAY_TRASH_DAYS", "-1"),
    ("SLIPWAY_TRASH_COPIES", "101"),
    ("SLIPWAY_MAX_WORKSPACES", "0"),
    ("SLIPWAY_LOG_FORMAT", "xml"),
    ("SLIPWAY_SECRET_KEY_FILE", "/nonexistent/file"),
    ("SLIPWAY_INTERNAL_SECRET_FILE", "/nonexistent/file"),
    ("SLIPWAY_GITHUB_TOKEN_FILE", "/nonexistent/file"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        env.read({"SLIPWAY_HOME": str(tmp_path), name: value})


def test_addresses_of_web_are_written_as_in_a_host_field(tmp_path: Path) -> None:
    found = env.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_WEB_HOSTS": "fd00::7, 10.1.2.3,slipway-web"})
    assert found.web_hosts == ("[fd00::7]", "10.1.2.3", "slipway-web")


@pytest.mark.parametrize("text", ["", "- image", "image", "image: [", "image: \xff"])
def test_options_that_are_no_mapping_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "options.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ImproperlyConfigured, match="SLIPWAY_KUBERNETES_OPTIONS"):
        env.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_KUBERNETES_OPTIONS": str(path)})


def test_a_cluster_needs_options(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="SLIPWAY_KUBERNETES_OPTIONS is missing"):
        env.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_RUNTIME": "k8s"})


def test_options_are_read(tmp_path: Path) -> None:
    path = tmp_path / "options.yaml"
    path.write_text("image: registry.example/workspace:1\ngateway: {networks: [10.0.0.1/32]}\n")
    found = env.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_RUNTIME": "k8s", "SLIPWAY_KUBERNETES_OPTIONS": str(path)})
    assert found.kubernetes_options == {
        "image": "registry.example/workspace:1",
        "gateway": {"networks": ["10.0.0.1/32"]},
    }


def test_the_defaults(tmp_path: Path) -> None:
    blank = dict.fromkeys(env.VARIABLES, "")
    found = env.read({**blank, "SLIPWAY_HOME": str(tmp_path)})
    assert (found.port, found.portal_url, found.domain) == (8000, "http://localhost:8000", "localhost")
    assert found.database_url == f"sqlite:///{tmp_path / 'slipway.sqlite3'}"
    assert found.redis_url == f"unix://{found.run / 'valkey.sock'}"
    assert (found.runtime, found.sandbox, found.debug) == ("local", "auto", False)
    assert not found.allow_file_repositories


def test_the_portals_address_follows_the_port(tmp_path: Path) -> None:
    found = env.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_PORT": "9000"})
    assert found.portal_url == "http://localhost:9000"
    found = env.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_PORTAL_URL": "https://dev.example.com/"})
    assert (found.portal_url, found.domain) == ("https://dev.example.com", "dev.example.com")


def test_secrets_are_made_once_and_kept_for_the_owner_only(tmp_path: Path) -> None:
    asked = {"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_SECRET_KEY": "", "SLIPWAY_INTERNAL_SECRET": ""}
    first, second = env.read(asked), env.read(asked)
    assert first.secret_key == second.secret_key
    assert first.secret_key != first.internal_secret
    assert len(first.secret_key) > 50
    for file in (tmp_path / "secrets").iterdir():
        assert file.stat().st_mode & 0o077 == 0
    assert first.secret_key not in repr(first)


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("from a file\n")
    found = env.read({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_SECRET_KEY_FILE": str(file)})
    assert found.secret_key == "from a file"


def test_a_socket_fits_below_a_deep_data_folder(tmp_path: Path) -> None:
    found = env.read({"SLIPWAY_HOME": str(tmp_path / ("deep" * 30))})
    assert len(bytes(found.run)) <= env.LONGEST_RUN_DIR
    assert found.run == env.run_folder(found.home)


def test_readme_names_every_setting() -> None:
    readme = ROOT / "README.md"
    assert readme.exists(), "README.md is missing; it must document every setting"
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", readme.read_text()))
    missing = sorted(set(env.VARIABLES) - named)
    assert not missing, f"README.md does not document: {', '.join(missing)}"


def test_every_field_comes_from_a_variable() -> None:
    known = {name.removeprefix("SLIPWAY_").lower() for name in env.VARIABLES}
    fields = set(env.Environment.__dataclass_fields__) - {"run"}
    assert fields == known
