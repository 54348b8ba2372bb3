"""A registry that is away, busy, slow, shut or damaged, and a job that is killed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.conftest import Jobs, environment
from tests.support import registry as registries
from tests.support.registry import Fault, Line, Registry, line, registry
from tests.support.waiting import eventually

pytestmark = [pytest.mark.registry]
MEGABYTE = 2**20


@pytest.fixture
def wire(store: Registry) -> Iterator[Line]:
    with line(store.host) as found:
        yield found


@pytest.fixture
def bad(wire: Line, tmp_path: Path) -> Jobs:
    """A job with 20 MB that do not compress, over a line that may be bad."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/data").write_bytes(os.urandom(20 * MEGABYTE))
    return Jobs(tmp_path, wire.host)


def same(jobs: Jobs, reference: str) -> bool:
    """Whether the backup holds what the volume does."""
    back = jobs.restore(reference, jobs.folder / "back")
    assert back.code == 0, back.log
    return (jobs.folder / "back/data").read_bytes() == (jobs.volume / "data").read_bytes()


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("HEAD", 500), Fault("POST", 503), Fault("PATCH", 502), Fault("PUT", 500), Fault("GET", 504)],
        [Fault("POST", 429, Retry_After="1"), Fault("PATCH", 429, Retry_After="1")],
        [Fault("PATCH", after=3 * MEGABYTE)],
        [Fault("PATCH", after=0), Fault("PATCH", after=None)],
        [Fault("POST", after=None), Fault("PUT", after=None), Fault("HEAD", after=None)],
        [Fault("PATCH", 404), Fault("PATCH", 416), Fault("PUT", 404)],
    ],
    ids=["away for a moment", "busy", "cut in the middle", "cut around a piece", "answers lost", "upload forgotten"],
)
def test_what_passes_is_waited_for(bad: Jobs, wire: Line, faults: list[Fault]) -> None:
    wire.faults = list(faults)
    done = bad.save()
    assert (done.code, wire.faults) == (0, []), done.log
    assert same(bad, done.result["reference"])


def test_a_piece_whose_answer_was_lost_is_not_sent_again(bad: Jobs, wire: Line) -> None:
    wire.faults = [Fault("PATCH", after=None)]
    assert bad.save().code == 0
    assert wire.bytes_sent < 21 * MEGABYTE


def test_a_registry_that_wants_larger_pieces_gets_them(bad: Jobs, wire: Line) -> None:
    def pieces() -> int:
        return sum(method == "PATCH" for method, _ in wire.seen)

    assert bad.save().code == 0
    usual = pieces()
    (bad.volume / "data").write_bytes(os.urandom(20 * MEGABYTE))
    wire.seen.clear()
    wire.added = {"OCI-Chunk-Min-Length": str(15 * MEGABYTE)}
    done = bad.save(key="two")
    # One of the first is the empty description that all of them share.
    assert (usual, pieces()) == (3 + 1, 2)
    assert same(bad, done.result["reference"])


def test_a_registry_that_asks_to_wait_is_given_the_time(bad: Jobs, wire: Line) -> None:
    wire.faults = [Fault("POST", 429, Retry_After="3")]
    done = bad.save()
    assert done.code == 0
    assert "Trying again in 3.0 s: POST was answered 429" in done.log


def test_patience_ends(bad: Jobs, store: Registry, wire: Line) -> None:
    store.stop()
    bad.options = ("--insecure", "--patience", "2")
    done = bad.save()
    assert (done.code, done.result["code"], done.result["temporary"]) == (1, "registry_away", True)


def test_a_registry_that_comes_back_goes_on(bad: Jobs, store: Registry) -> None:
    command = bad.command(*bad.saving("--part-bytes", str(MEGABYTE)))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        said = process.stdout
        eventually(lambda: "part_stored" in said.readline())
        store.stop()
        eventually(lambda: "waiting" in said.readline())
        store.start()
        said.read()
    assert process.returncode == 0
    done = bad.save()
    assert same(bad, done.result["reference"])


def test_a_job_that_was_killed_sends_nothing_twice(bad: Jobs, wire: Line) -> None:
    saving = bad.saving("--part-bytes", str(MEGABYTE))
    with subprocess.Popen(bad.command(*saving), stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        for _ in range(10):
            assert "part_stored" in process.stdout.readline()
        process.kill()
    before = wire.bytes_sent
    done = bad.run(*saving)
    assert done.code == 0, done.log
    assert wire.bytes_sent - before < 11 * MEGABYTE
    assert same(bad, done.result["reference"])


def test_one_key_is_one_backup(bad: Jobs, wire: Line) -> None:
    first = bad.save()
    before = wire.bytes_sent
    (bad.volume / "data").write_bytes(b"changed")
    again = bad.save()
    assert again.result == first.result
    assert wire.bytes_sent == before
    other = bad.save(key="two")
    assert other.result["digest"] != first.result["digest"]
    foreign = bad.run(*[("else" if word == "demo" else word) for word in bad.saving()])
    assert foreign.result["code"] == "key_taken"


def test_damage_in_the_registry_is_found(bad: Jobs, store: Registry) -> None:
    done = bad.save("--part-bytes", str(MEGABYTE))
    part = max((path for path in store.blobs.glob("*/*/data")), key=lambda path: path.stat().st_size)
    content = bytearray(part.read_bytes())
    content[1000] ^= 1
    part.write_bytes(content)
    assert bad.save().result["code"] == "backup_damaged"
    assert bad.save("--check", "size").code == 0, "a size says nothing of content"
    back = bad.restore(done.result["reference"], bad.folder / "back")
    assert (back.code, back.result["code"]) == (1, "backup_damaged")
    part.write_bytes(content[:-1])
    assert bad.save("--check", "size").result["code"] == "backup_damaged"


def test_a_manifest_that_was_changed_is_found(bad: Jobs, store: Registry) -> None:
    done = bad.save()
    path = store.blob(done.result["digest"])
    path.write_bytes(path.read_bytes().replace(b'"demo"', b'"dema"'))
    back = bad.restore(done.result["reference"], bad.folder / "back")
    assert back.code == 1
    # The registry itself may see it first.
    assert back.result["code"] in {"backup_damaged", "registry_away"}


def test_forgetting_twice_is_fine_and_what_is_forgotten_cannot_be_restored(bad: Jobs) -> None:
    reference = bad.save().result["reference"]
    for _ in range(2):
        done = bad.run("forget", "--reference", reference)
        assert done.code == 0, done.log
    assert bad.restore(reference, bad.folder / "back").result["code"] == "backup_missing"
    assert list((bad.folder / "back").iterdir()) == []


def test_what_was_perhaps_saved_is_forgotten_by_its_key(bad: Jobs) -> None:
    reference, other = bad.save().result["reference"], bad.save(key="two").result["reference"]
    for _ in range(2):
        done = bad.run("forget", "--repository", f"{bad.host}/backups/demo", "--key", "one")
        assert done.code == 0, done.log
    assert bad.restore(reference, bad.folder / "back").result["code"] == "backup_missing"
    assert bad.restore(other, bad.folder / "back").code == 0


@pytest.mark.parametrize("lock", ["basic", "token"])
def test_a_registry_with_a_lock(tmp_path: Path, lock: registries.Lock) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/data").write_bytes(os.urandom(3 * MEGABYTE))
    with registry(lock) as store:
        known = str(registries.credentials(tmp_path / "config.json", store.host))
        jobs = Jobs(tmp_path, store.host, ("--insecure", "--patience", "10", "--credentials", known))
        done = jobs.save()
        assert done.code == 0, done.log
        assert same(jobs, done.result["reference"])
        assert registries.PASSWORD not in done.log
        registries.credentials(tmp_path / "config.json", store.host, "wrong")
        refused = jobs.save()
        assert (refused.result["code"], refused.result["temporary"]) == ("registry_refused", False)
        jobs.options = ("--insecure", "--patience", "10")
        assert jobs.save().result["code"] == "registry_refused"
        (tmp_path / "config.json").write_text("{")
        jobs.options = ("--insecure", "--patience", "10", "--credentials", known)
        assert jobs.save().result["code"] == "credentials_unusable"


def test_a_token_that_ends_meanwhile_is_traded_for_another(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/data").write_bytes(os.urandom(3 * MEGABYTE))
    with registry("token") as store, line(store.host) as wire:
        realm = f"http://127.0.0.1:{store.tokens.server_port}/token"
        challenge = f'Bearer realm="{realm}",service="test",scope="repository:backups/demo:pull,push"'
        wire.faults = [Fault("PATCH", 401, WWW_Authenticate=challenge)]
        entry = {"identitytoken": store.tokens.identity}
        known = str(registries.credentials(tmp_path / "config.json", f"https://{wire.host}/backups", **entry))
        done = Jobs(tmp_path, wire.host, ("--insecure", "--patience", "10", "--credentials", known)).save()
        # One to look, one to write, and one more after the first was over.
        assert (done.code, store.tokens.given) == (0, 3), done.log


def test_only_certificates_that_are_trusted_will_do(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/data").write_text("x")
    with registry("tls") as store:
        jobs = Jobs(tmp_path, store.host, ("--patience", "10", "--authority", str(store.folder / "ca.crt")))
        done = jobs.save()
        assert done.code == 0, done.log
        assert same(jobs, done.result["reference"])
        jobs.options = ("--patience", "10")
        refused = jobs.save()
        assert (refused.result["code"], refused.result["temporary"]) == ("registry_untrusted", False)
