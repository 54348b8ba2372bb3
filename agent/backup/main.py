"""The program: save a folder as a backup, restore one into an empty folder, or make the registry forget one.

It runs as a job beside the workspace and says what came of it as small JSON: `{"state": "done", "reference", "digest",
"entries", "bytes", "stored"}` or `{"state": "failed", "code", "message", "next_step", "temporary"}`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent import files
from agent.backup import artifact
from agent.backup.artifact import About, Backup, Part
from agent.backup.packing import pack
from agent.backup.parts import PART, Cutter, Joiner
from agent.backup.registry import Repository, damaged, split_reference
from agent.backup.unpacking import clear, is_empty, unpack
from agent.logs import Log
from agent.problems import Problem

MARKER = ".slipway-restore"
"""At the root of a volume: which backup it is made from, and whether that is done."""

_LONGEST_RESULT = 3_500
_MEGABYTE = 1_000_000


def run(arguments: Sequence[str]) -> int:
    """Do one thing. Exit code 0 when it is done, 1 when it failed, 2 when the arguments make no sense."""
    options = _parser().parse_args(arguments)
    log = Log()
    # Parts are uploaded before the archive is whole; files are written by descriptor, one for each level of folders.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.umask(0o022)
    try:
        result = {"state": "done", **options.act(options, log)}
    except Problem as problem:
        log.write("backup", problem.message, level="error", event=problem.code)
        result = _failed(problem)
    except Exception as error:  # noqa: BLE001 - the process's own boundary: who started it only sees the result.
        log.write("backup", "".join(traceback.format_exception(error)), level="error", event="backup_crashed")
        operator = "Ask the operator to look at the log."
        result = _failed(Problem("backup_crashed", f"The backup job failed ({type(error).__name__}).", operator))
    if options.result is not None:
        options.result.write_text(json.dumps(result), encoding="utf-8")
    log.write("backup", json.dumps(result), event="result")
    return 0 if result["state"] == "done" else 1


def save(options: argparse.Namespace, log: Log) -> dict[str, Any]:
    """Save a folder under a key; a backup of this key that is there already is verified and kept as it is."""
    about = About(options.workspace, options.key, options.created)
    repository = _repository(options.repository, options, log)
    backup = artifact.find(repository, about.key)
    if backup is None:
        backup = _make(options, repository, about, log)
    elif backup.about.workspace != about.workspace:
        raise Problem("key_taken", "This backup's name belongs to another workspace.", "Ask the operator.")
    artifact.verify(repository, backup, options.check)
    return _described(repository, backup)


def _make(options: argparse.Namespace, repository: Repository, about: About, log: Log) -> Backup:
    parts: list[Part] = []

    def store(content: bytes) -> None:
        parts.append(Part(repository.upload(content), len(content)))
        done = sum(part.size for part in parts) // _MEGABYTE
        log.write("backup", f"{len(parts)} parts, {done} MB are in the registry.", event="part_stored")

    count = pack(options.root, Cutter(store, level=options.level, part_bytes=options.part_bytes))
    return artifact.publish(repository, about, count, parts)


def restore(options: argparse.Namespace, log: Log) -> dict[str, Any]:
    """Make a folder from a backup. One that is half restored is begun again; any other content is left alone."""
    name, digest = split_reference(options.reference)
    repository = _repository(name, options, log)
    root: Path = options.root
    note = files.read_json(root / MARKER)
    backup = artifact.find(repository, digest)
    if backup is None:
        raise Problem("backup_missing", "The registry does not have this backup.", "Choose another one.")
    if note == _note(options.reference, done=True):
        return _described(repository, backup)
    if note:
        if note.get("reference") != options.reference or note.get("done"):
            raise _not_empty()
        clear(root)
    elif not is_empty(root):
        raise _not_empty()
    files.write_json(root / MARKER, _note(options.reference, done=False))
    count = unpack(Joiner(artifact.read(repository, backup)), root)
    if (count.entries, count.size) != (backup.count.entries, backup.count.size):
        raise damaged("it does not hold what it says")
    # The note must not say more than the disk has.
    os.sync()
    files.write_json(root / MARKER, _note(options.reference, done=True))
    return _described(repository, backup)


def forget(options: argparse.Namespace, log: Log) -> dict[str, Any]:
    """Make the registry forget a backup, by its reference or its key. Forgotten already is fine."""
    if options.reference:
        name, digest = split_reference(options.reference)
        repository = _repository(name, options, log)
    else:
        repository = _repository(options.repository, options, log)
        backup = artifact.find(repository, options.key)
        if backup is None:
            return {}
        digest = backup.digest
    repository.delete_manifest(digest)
    if repository.manifest(digest) is not None:
        raise Problem("registry_keeps", "The registry still has the backup.", "Ask the operator.", temporary=True)
    return {"reference": f"{repository.name}@{digest}"}


def _repository(name: str, options: argparse.Namespace, log: Log) -> Repository:
    return Repository(
        name,
        credentials_file=options.credentials,
        authority=options.authority,
        insecure=options.insecure,
        patience=options.patience,
        say=lambda text: log.write("backup", text, level="warning", event="waiting"),
    )


def _described(repository: Repository, backup: Backup) -> dict[str, Any]:
    count = dataclasses.asdict(backup.count)
    found = {"reference": f"{repository.name}@{backup.digest}", "digest": backup.digest, "stored": backup.stored}
    return {**found, "entries": count["entries"], "bytes": count["size"], "skipped": count["skipped"]}


def _failed(problem: Problem) -> dict[str, Any]:
    words = {"message": problem.message[: _LONGEST_RESULT // 6], "next_step": problem.next_step}
    return {"state": "failed", "code": problem.code, **words, "temporary": problem.temporary}


def _note(reference: str, *, done: bool) -> dict[str, Any]:
    return {"reference": reference, "done": done}


def _not_empty() -> Problem:
    return Problem(
        "volume_not_empty",
        "There are files where the backup should go. None of them was touched.",
        "Restore into a workspace without storage.",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="backup", description="Copies of a volume in a registry.")
    parser.add_argument("--credentials", type=Path, help="a file like Docker's config.json")
    parser.add_argument("--authority", type=Path, help="certificates that are trusted; default: the machine's own")
    parser.add_argument("--insecure", action="store_true", help="speak HTTP without TLS")
    parser.add_argument("--patience", type=float, default=600.0, help="seconds without progress before giving up")
    parser.add_argument("--result", type=Path, help="where to write what came of it")
    commands = parser.add_subparsers(required=True)
    saving = commands.add_parser("save", help=save.__doc__)
    saving.add_argument("--repository", required=True, help="such as registry.example/backups/demo")
    saving.add_argument("--workspace", required=True, help="its name")
    saving.add_argument("--key", required=True, help="tells this backup from the workspace's others")
    saving.add_argument("--created", required=True, help="when it was asked for, RFC 3339")
    saving.add_argument("--root", type=Path, required=True, help="what is saved")
    saving.add_argument("--level", type=int, choices=range(1, 20), default=3, help="of compression")
    saving.add_argument("--part-bytes", type=int, default=PART, help="size of a part")
    saving.add_argument("--check", choices=("content", "size"), default="content", help="how it is verified")
    saving.set_defaults(act=save)
    restoring = commands.add_parser("restore", help=restore.__doc__)
    restoring.add_argument("--reference", required=True, help="the repository, @, and the digest")
    restoring.add_argument("--root", type=Path, required=True, help="an empty folder")
    restoring.set_defaults(act=restore)
    forgetting = commands.add_parser("forget", help=forget.__doc__)
    which = forgetting.add_mutually_exclusive_group(required=True)
    which.add_argument("--reference", help="the repository, @, and the digest")
    which.add_argument("--key", help="the key that it was saved under, where nobody knows whether it was")
    forgetting.add_argument("--repository", default="", help="with --key: such as registry.example/backups/demo")
    forgetting.set_defaults(act=forget)
    return parser
