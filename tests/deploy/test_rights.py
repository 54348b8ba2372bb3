"""The platform's accounts in a real cluster can do all that they have to, and nothing that they do not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.kubelet import node_with_logs
from tests.deploy.installed import Installed
from tests.deploy.life import Life
from tests.runtime.k8s.conftest import patiently
from tests.support.waiting import eventually
from workspaces.runtime.k8s import K8sRuntime
from workspaces.runtime.k8s.operations import K8sOperations

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture
def life(installed: Installed) -> Iterator[Callable[[str], Life]]:
    with node_with_logs(installed.cluster) as node:
        yield lambda name: Life(installed, node, name)


def test_worker_and_web_have_the_rights_that_they_use(installed: Installed, life: Callable[[str], Life]) -> None:
    demo, worker, web = life("demo"), installed.runtime("worker"), installed.runtime("web")
    for run in (1, 2):
        # The second run finds its volume too small for what is configured by then.
        demo.begin(run, volume_bytes=installed.config.volume_bytes * run)
        _await_explanation(installed, worker)
        assert b"hello" in web.logs("demo")
        assert [entry.name for entry in worker.list()] == ["demo"]
        demo.end(lambda: worker.stop("demo", grace=1))
        worker.destroy_run("demo")
        assert b"hello" in web.logs("demo")
    assert b"hello" in worker.logs("demo")
    if installed.config.backup:
        demo.copy_by_storage()
        demo.copy_by_jobs()
    patiently(lambda: worker.destroy_volume("demo"))
    installed.check("worker")
    installed.check("web")


def _await_explanation(here: Installed, worker: K8sRuntime) -> None:
    """A start that takes long is explained by the cluster's events."""
    eventually(
        lambda: worker.observe("demo").run and here.has_used("worker", "list", "events"), what="it reads the events"
    )


class Deaf:
    """Who is told and does nothing."""

    def changed(self, name: str) -> None:
        pass

    def said(self, name: str) -> None:
        pass

    def heard(self, kind: str, age: float) -> None:
        pass

    def listed(self, kind: str, reason: str, count: int) -> None:
        pass


def test_the_operator_has_the_rights_that_it_uses(installed: Installed, life: Callable[[str], Life]) -> None:
    config = installed.configured("operator")
    operations = K8sOperations(config, K8sRuntime(config), "me", Deaf())
    operations.start()
    with contextlib.ExitStack() as stack:
        stack.callback(operations.stop)
        eventually(lambda: all(watch.synced for watch in operations.watches()), what="all watches are synced")
        assert operations.hold()
        assert operations.hold()
        demo = life("demo")
        for run in (1, 2):
            demo.begin(run)
            assert [found.name for found in operations.survey()] == ["demo"]
            operations.mark("demo", 5)
            demo.end(lambda: operations.clear("demo"))
            patiently(lambda: operations.clear("demo"))
        installed.cluster.kubectl("delete", "pvc", demo.at.name, "--namespace", demo.at.namespace)
        patiently(lambda: operations.clear("demo"))
        operations.release()
    installed.check("operator")
