"""The whole round on a real node: files, a copy in a real registry, the volume destroyed, and the same files again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import network
from tests.cluster.node import Node
from tests.runtime.k8s import backup_image
from tests.runtime.k8s.conftest import patiently
from tests.runtime.k8s.test_node import LIMITS, NodeStage, place
from tests.support import registry as registries
from tests.support.registry import Registry, registry
from tests.support.waiting import eventually
from workspaces.runtime.errors import VolumeMissing
from workspaces.runtime.k8s import Backup, K8sRuntime, Peer
from workspaces.runtime.port import Copying, CopyState, RunSpec, SnapshotRef

__all__ = ["place"]  # A fixture.

ELSEWHERE = "203.0.113.9"
pytestmark = [
    pytest.mark.node,
    pytest.mark.registry,
    pytest.mark.timeout(900),
    pytest.mark.allow_hosts(["127.0.0.1", network.MACHINE, network.PODS, ELSEWHERE]),
]
NOW = datetime(2026, 11, 24, 10, tzinfo=UTC)
# As the workspace's own user, within its home.
FILL = (
    "umask 022; cd; mkdir -p deep/er shut; head -c 5000000 /dev/urandom > deep/er/data; echo x > shut/secret;"
    "ln deep/er/data same; ln -s /usr/bin/python3 python; ln -s ../nowhere gone; "
    "printf 'a' > \"$(printf 'odd\\nname')\"; truncate -s 50M sparse; chmod 400 shut/secret; chmod 555 shut;"
    "touch -d '2001-02-03 04:05:06.789' deep; mkfifo pipe"
)
LIST = (
    "cd; find . ! -name pipe ! -path './.cache*' -printf '%p %y %m %n %l %TY-%Tm-%TdT%TT\\n' | LC_ALL=C sort;"
    "find . -type f -exec sha256sum {} + | LC_ALL=C sort; du -k sparse | cut -f1"
)


@pytest.fixture
def image(node: Node) -> str:
    return backup_image.on(node)


@pytest.fixture
def store(node: Node) -> Iterator[Registry]:
    with registry("basic", address=network.MACHINE) as found:
        yield found


@pytest.fixture
def copier(place: NodeStage, store: Registry, image: str, tmp_path: Path) -> K8sRuntime:
    known = registries.credentials(tmp_path / "config.json", store.host)
    to = Peer(networks=(f"{network.MACHINE}/32",))
    backup = Backup(f"{store.host}/backups", credentials=known, insecure=True, network=to, image=image)
    return place.runtime(backup=backup)


def until_over(act: Any) -> Copying:
    def look() -> Copying | None:
        found: Copying = patiently(act)
        return found if found.state is not CopyState.RUNNING else None

    seen = eventually(look, timeout=120, every=0.2)
    assert seen is not None
    return seen


def listed(place: NodeStage, number: int) -> tuple[str, K8sRuntime]:
    place.run("demo", LIST, number=number)
    runtime = place.runtime()
    return str(place.said("demo")[-1]["out"]), runtime


def test_files_come_back_from_a_registry_after_their_volume_was_destroyed(
    place: NodeStage, copier: K8sRuntime, store: Registry
) -> None:
    place.run("demo", FILL, LIST)
    before = place.said("demo")[-1]["out"]
    assert "./odd\n" in before
    place.end("demo")

    made = until_over(lambda: copier.snapshot("demo", key="one", created=NOW))
    assert made.state is CopyState.PRESENT, made.failure
    assert made.snapshot is not None
    assert made.snapshot.digest.startswith("sha256:")
    assert store.blob(made.snapshot.digest).exists()
    assert until_over(lambda: copier.snapshot("demo", key="one", created=NOW)) == made

    patiently(lambda: copier.destroy_volume("demo"))
    name = f"{place.prefix}demo"
    eventually(lambda: not place.cluster.get("namespace", name), timeout=120, every=0.2)
    with pytest.raises(VolumeMissing):
        copier.ensure_run(RunSpec("demo", 2, {}, {}, LIMITS))

    back = until_over(lambda: copier.restore("demo", SnapshotRef(**_plain(made.snapshot))))
    assert back == Copying(CopyState.PRESENT, made.snapshot), back.failure
    after, _ = listed(place, 2)
    assert after.splitlines() == str(before).splitlines()
    place.end("demo")

    assert until_over(lambda: copier.forget_snapshot("demo", made.snapshot)).state is CopyState.ABSENT
    patiently(lambda: copier.destroy_volume("demo"))
    eventually(lambda: not place.cluster.get("namespace", name), timeout=120, every=0.2)
    gone = until_over(lambda: copier.restore("demo", made.snapshot))
    assert gone.failure is not None
    assert gone.failure.code == "backup_missing"


def test_a_file_that_its_owner_shut_is_told_to_its_owner(place: NodeStage, copier: K8sRuntime) -> None:
    place.run("demo", "echo x > ~/shut; chmod 0 ~/shut")
    place.end("demo")
    failed = until_over(lambda: copier.snapshot("demo", key="one", created=NOW))
    assert failed.failure is not None
    assert failed.failure.code == "volume_unreadable"
    assert "“home/shut”" in failed.failure.user_text


def test_a_job_reaches_the_registry_and_nothing_else(place: NodeStage, copier: K8sRuntime, node: Node) -> None:
    node.add_outside(ELSEWHERE)
    with registry(address=ELSEWHERE) as other:
        place.run("demo", "echo x > ~/x")
        place.end("demo")
        found = copier._config.backup  # The same job with another registry, and the same wall.
        assert found is not None
        astray = place.runtime(
            backup=Backup(
                f"{other.host}/backups",
                insecure=True,
                network=found.network,
                image=found.image,
                command=("timeout", "20", *found.command),
            )
        )
        failed = until_over(lambda: astray.snapshot("demo", key="two", created=NOW))
        assert failed.state is CopyState.FAILED
        assert not list(other.folder.glob("data/docker/registry/v2/repositories/*"))


def _plain(snapshot: SnapshotRef) -> dict[str, Any]:
    """As a database would keep it."""
    return {"kind": snapshot.kind, "reference": snapshot.reference, "digest": snapshot.digest, "size": snapshot.size}
