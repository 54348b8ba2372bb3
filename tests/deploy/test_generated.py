"""What of the chart follows from other files is up to date, and says something."""

from __future__ import annotations

import json

import pytest
import yaml
from jsonschema import Draft202012Validator

from config.env import VARIABLES
from tests.deploy import generated
from workspaces.runtime.k8s.config import K8sConfig, Peer


def test_the_schema_is_that_of_the_runtime_and_the_settings() -> None:
    found = json.loads(generated.SCHEMA.read_text(encoding="utf-8"))
    assert found == generated.schema(), "run `make schema`"
    Draft202012Validator.check_schema(found)


def test_the_table_is_that_of_the_schema() -> None:
    assert generated.TABLE.read_text(encoding="utf-8") == generated.table(), "run `make schema`"


def test_every_setting_is_made_by_the_chart_or_may_be_given() -> None:
    assert set(VARIABLES) >= generated.GIVEN, "a setting is gone"


def test_every_value_has_a_default_and_a_meaning() -> None:
    values = generated.defaults()
    for name, default, meaning in generated.rows(generated.schema(), values):
        assert meaning.strip(), name
        if name.rpartition(".")[2] != "trial":
            found = values
            for step in name.split("."):
                assert step in found, f"{name} is not in values.yaml (default {default})"
                found = found[step]


def test_workspaces_have_the_runtimes_own_defaults() -> None:
    ours = generated.defaults()["workspaces"]
    options = json.loads(generated.OPTIONS.read_text(encoding="utf-8"))["properties"]
    assert ours.keys() == options.keys() - generated.FILLED
    config = K8sConfig(image="x")
    for name, value in ours.items():
        # To find out how the editor can be delivered takes the right to look at nodes, which the chart does not grant.
        if name in {"image", "instance", "delivery"}:
            continue
        theirs = getattr(config, name)
        if name == "dev_api":
            assert theirs == Peer(**value)
            continue
        if name == "dns":
            theirs = {"namespace": dict(theirs.namespace), "pods": dict(theirs.pods)}
        if name == "dev_api":
            theirs = {}
        assert value == (list(theirs) if isinstance(theirs, tuple) else theirs), name


@pytest.mark.parametrize("name", ["Chart.yaml", "values.yaml"])
def test_there_is_one_version_of_slipway(name: str) -> None:
    found = yaml.safe_load((generated.CHART / name).read_text(encoding="utf-8"))
    project = (generated.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = found["appVersion"] if name == "Chart.yaml" else found["image"]["tag"]
    assert version == "" or f'version = "{version}"' in project
