"""A backup as an OCI artifact: how it is made, checked and read. Its manifest comes last: it stands for a whole.

https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md#guidelines-for-artifact-usage
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from agent.backup.packing import Count
from agent.backup.parts import LONGEST
from agent.backup.registry import MANIFEST, Repository, damaged, digest_of

ARTIFACT = "application/vnd.slipway.backup.v1+tar"
PART = "application/vnd.slipway.backup.v1.tar+zstd"
_EMPTY = "application/vnd.oci.empty.v1+json"
_NOTHING = b"{}"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_WORKSPACE, _KEY = "dev.slipway.workspace", "dev.slipway.key"
_ENTRIES, _BYTES, _SKIPPED = "dev.slipway.entries", "dev.slipway.bytes", "dev.slipway.skipped"
_CREATED = "org.opencontainers.image.created"

Check = Literal["content", "size"]
"""How a backup is verified: by reading all of it back, or by asking for each part's size."""


@dataclasses.dataclass(frozen=True, slots=True)
class About:
    """What a backup is of.

    Attributes:
        workspace: its name.
        key: tells this backup from the workspace's others.
        created: when it was asked for, as RFC 3339 writes it.
    """

    workspace: str
    key: str
    created: str


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One layer."""

    digest: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Backup:
    """A manifest that was read.

    Attributes:
        digest: of the manifest: names the backup, and all that is in it.
        count: what it holds.
        stored: bytes in the registry.
    """

    digest: str
    about: About
    count: Count
    parts: tuple[Part, ...]

    @property
    def stored(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)


def publish(repository: Repository, about: About, count: Count, parts: list[Part]) -> Backup:
    """Make the manifest of parts that are there, and give it the tag of its key."""
    content = _manifest(about, count, parts)
    repository.upload(_NOTHING)
    repository.put_manifest(about.key, content)
    return parse(content)


def find(repository: Repository, reference: str) -> Backup | None:
    """The backup of a key, or of a digest; None when there is none."""
    content = repository.manifest(reference)
    return None if content is None else parse(content)


def verify(repository: Repository, backup: Backup, check: Check) -> None:
    """Make sure that the registry gives back what was given to it.

    Raises:
        Problem: something is missing or is not what it was.
    """
    if repository.manifest(backup.digest) is None:
        raise damaged("its manifest is missing")
    for part in backup.parts:
        if check == "content":
            repository.read(part.digest, part.size)
        elif not repository.holds(part.digest, part.size):
            raise damaged(f"the part {part.digest} is missing")


def read(repository: Repository, backup: Backup) -> Iterator[bytes]:
    """The parts in order, each verified before it is given out."""
    for part in backup.parts:
        yield repository.read(part.digest, part.size)


def parse(content: bytes) -> Backup:
    """Read a manifest.

    Raises:
        Problem: it is no backup's.
    """
    try:
        document = json.loads(content)
        if document["artifactType"] != ARTIFACT:
            raise damaged("this is something else")
        notes = document["annotations"]
        return Backup(
            digest_of(content),
            About(str(notes[_WORKSPACE]), str(notes[_KEY]), str(notes[_CREATED])),
            Count(int(notes[_ENTRIES]), int(notes[_BYTES]), int(notes[_SKIPPED])),
            tuple(_part(layer) for layer in document["layers"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise damaged(f"its manifest makes no sense ({type(error).__name__})") from error


def _part(layer: dict[str, Any]) -> Part:
    part = Part(str(layer["digest"]), int(layer["size"]))
    if layer["mediaType"] != PART or not _DIGEST.fullmatch(part.digest) or not 0 < part.size <= LONGEST:
        raise damaged("a part of it makes no sense")
    return part


def _manifest(about: About, count: Count, parts: list[Part]) -> bytes:
    notes = {
        _CREATED: about.created,
        _WORKSPACE: about.workspace,
        _KEY: about.key,
        _ENTRIES: str(count.entries),
        _BYTES: str(count.size),
        _SKIPPED: str(count.skipped),
    }
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": {"mediaType": _EMPTY, "digest": digest_of(_NOTHING), "size": len(_NOTHING)},
        "layers": [{"mediaType": PART, "digest": part.digest, "size": part.size} for part in parts],
        "annotations": notes,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
