"""The audit log: what is in it, the chain that holds it together, and how it leaves the house."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import AuditClass, AuditEntry, AuditHead, User
from accounts.services import audit, sealing
from tests.services.stage import together
from workspaces.models import Workspace

WORKSPACE = audit.Subject("workspace", "w1", "rocket")


def write(count: int = 3, **fields: Any) -> list[AuditEntry]:
    return [audit.record(f"workspace.{number}", WORKSPACE, actor=None, **fields) for number in range(count)]


def said(*arguments: str) -> str:
    out = StringIO()
    call_command("audit", *arguments, stdout=out)
    return out.getvalue()


def test_an_entry_says_who_did_what_from_where(
    owner: User, bearer: Callable[..., dict[str, str]], workspace_factory: Callable[..., Workspace]
) -> None:
    workspace = workspace_factory(owner, state="stopped", desired="stopped")
    headers = {**bearer(owner), "X-Request-ID": "abc-123"}
    answer = Client().post(f"/api/v1/workspaces/{workspace.pk}/start", headers=headers, REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 202
    entry = AuditEntry.objects.get(object_type="workspace")
    assert (entry.actor, entry.action, entry.object_id) == ("owner", "workspace.running", str(workspace.pk))
    assert (entry.address, entry.request_id) == ("192.0.2.7", "abc-123")
    assert entry.via.startswith("token:")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["password", "api_token", "client_secret", "Authorization", "value"])
def test_no_secret_is_kept(name: str) -> None:
    entry = audit.record("x.y", WORKSPACE, actor=None, difference={name: ("old and secret", "new and secret")})
    assert entry.difference == {name: ["***", "***"]}
    assert "secret" not in json.dumps(entry.difference[name])


@pytest.mark.django_db
def test_a_chain_that_nobody_touched_holds() -> None:
    write()
    assert sealing.seal() == 3
    assert sealing.seal() == 0
    write(2)
    assert sealing.verify() == sealing.Verdict(3, 2, AuditHead.objects.get().seal)
    sealing.seal()
    verdict = sealing.verify()
    assert (verdict.sealed, verdict.waiting, verdict.broken_at) == (5, 0, None)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("tamper", "at", "problem"),
    [
        (lambda rows: rows.filter(sequence=2).update(actor="somebody else"), 2, "content was altered"),
        (lambda rows: rows.filter(sequence=2).update(difference={"x": [1, 2]}), 2, "content was altered"),
        (lambda rows: rows.filter(sequence=1).update(seal="0" * 64), 1, "seal was altered"),
        (lambda rows: rows.filter(sequence=3).update(digest="0" * 64, forgotten=True), 3, "seal was altered"),
        (lambda rows: rows.filter(sequence=2).delete(), 2, "an entry is missing"),
        (lambda rows: rows.filter(sequence__gt=2).delete(), 3, "entries at the end are missing"),
        (lambda rows: rows.all().delete(), 1, "entries at the end are missing"),
    ],
)
def test_what_was_done_to_a_chain_is_found(tamper: Callable[[Any], object], at: int, problem: str) -> None:
    write(4)
    sealing.seal()
    tamper(AuditEntry.objects)
    verdict = sealing.verify()
    assert (verdict.broken_at, problem in verdict.problem) == (at, True)
    with pytest.raises(CommandError, match=f"at entry {at}"):
        said("verify")


@pytest.mark.django_db
def test_a_chain_that_was_made_anew_is_not_the_one_that_was_told() -> None:
    write()
    sealing.seal()
    told = said("verify").splitlines()[-1]
    assert told in said("verify", "--expect", told)
    AuditEntry.objects.filter(sequence=3).update(actor="mallory")
    AuditEntry.objects.update(sequence=None, seal="", digest="")
    AuditHead.objects.all().delete()
    sealing.seal()
    assert "3 entries are as they were written" in said("verify")
    with pytest.raises(CommandError, match="made anew"):
        said("verify", "--expect", told)
    with pytest.raises(CommandError, match="made anew"):
        said("verify", "--expect", "nonsense")


@given(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), min_size=1, max_size=6), st.integers(0, 5))
def test_a_seal_depends_on_all_before_it(digests: list[str], which: int) -> None:
    def last(chain: list[str]) -> str:
        seal = ""
        for number, digest in enumerate(chain, 1):
            seal = sealing.link(seal, number, digest)
        return seal

    which %= len(digests)
    changed = [*digests[:which], digests[which][::-1] + "0", *digests[which + 1 :]]
    assert last(changed) != last(digests)
    assert last(digests[:-1]) != last(digests)


@pytest.mark.django_db(transaction=True)
def test_two_that_seal_at_once_make_one_chain() -> None:
    write(20)
    results = together([partial(sealing.seal)] * 4)
    assert sorted(results) == [0, 0, 0, 20]  # type: ignore[type-var]  # None raised.
    assert sealing.verify().broken_at is None


@pytest.mark.django_db
def test_what_is_old_is_forgotten_and_the_chain_holds(settings: Any) -> None:
    write(1, kind=AuditClass.ACCESS, reason="went in")
    write(1, kind=AuditClass.CHANGE, reason="changed it")
    sealing.seal()
    write(1, kind=AuditClass.ACCESS, reason="not sealed yet")
    later = timezone.now() + timedelta(days=settings.ENVIRONMENT.audit_access_days + 1)
    assert sealing.forget(now=later) == 1
    assert [row.reason for row in AuditEntry.objects.order_by("id")] == ["", "changed it", "not sealed yet"]
    assert sealing.forget(now=later + timedelta(days=settings.ENVIRONMENT.audit_days)) == 1
    assert sealing.verify().broken_at is None


@pytest.mark.django_db
def test_an_export_goes_on_where_the_last_one_ended() -> None:
    write(3)
    sealing.seal()
    write(1)
    lines = [json.loads(line) for line in said("export").splitlines()]
    assert [line["sequence"] for line in lines] == [1, 2, 3]
    assert lines[0]["action"] == "workspace.0"
    assert [json.loads(line)["sequence"] for line in said("export", "--after", "2").splitlines()] == [3]


@pytest.mark.django_db
def test_a_syslog_server_gets_whole_messages() -> None:
    write(2)
    sealing.seal()
    with socket.create_server(("127.0.0.1", 0)) as server:
        heard: list[bytes] = []

        def listen() -> None:
            connection, _ = server.accept()
            with connection:
                while part := connection.recv(65536):
                    heard.append(part)

        thread = threading.Thread(target=listen)
        thread.start()
        assert said("export", "--syslog", f"tcp://127.0.0.1:{server.getsockname()[1]}") == ""
        thread.join(10)
    data, messages = b"".join(heard), []
    while data:
        size, _, rest = data.partition(b" ")
        messages.append(rest[: int(size)].decode())
        data = rest[int(size) :]
    assert [message.split(" ")[0] for message in messages] == ["<110>1", "<110>1"]
    assert json.loads(messages[1][messages[1].index("{") :])["action"] == "workspace.1"


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["127.0.0.1:514", "http://127.0.0.1:514", "tcp://127.0.0.1", "tcp://127.0.0.1:x"])
def test_a_syslog_server_must_be_named_as_one(address: str) -> None:
    with pytest.raises(CommandError, match="must be udp://host:port or tcp://host:port"):
        said("export", "--syslog", address)


@pytest.mark.django_db
def test_a_syslog_server_that_is_away_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(CommandError, match="cannot be reached"):
        said("export", "--syslog", f"tcp://127.0.0.1:{port}")


def test_the_admin_reads_it_and_cannot_change_it(admin: User) -> None:
    entry = write(1)[0]
    client = Client()
    client.force_login(admin, backend="django.contrib.auth.backends.ModelBackend")
    assert "workspace.0" in client.get("/admin/accounts/auditentry/").content.decode()
    page = f"/admin/accounts/auditentry/{entry.pk}"
    assert client.get(f"{page}/change/").status_code == 200
    assert client.post(f"{page}/change/", {"actor": "x"}).status_code == 403
    assert client.post(f"{page}/delete/", {"post": "yes"}).status_code == 403
    assert client.get("/admin/accounts/auditentry/add/").status_code == 403
