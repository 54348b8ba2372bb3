"""One repository of a registry: blobs and manifests by their digest.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.backup import credentials
from agent.backup.http import Answer, Http, Passing, Pauses
from agent.problems import Problem

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LONGEST_MANIFEST = 4 * 1024 * 1024
_CHUNK = 8 * 1024 * 1024
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REPOSITORY = re.compile(r"[^/\s]+(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)+")
_OPERATOR = "Ask the operator to look at the registry."


def digest_of(content: bytes) -> str:
    """The name of a content, by SHA-256."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def split_reference(reference: str) -> tuple[str, str]:
    """Repository and digest.

    Raises:
        Problem: it is no reference by digest.
    """
    repository, _, digest = reference.rpartition("@")
    if not _DIGEST.fullmatch(digest) or not _REPOSITORY.fullmatch(repository):
        raise Problem("invalid_reference", "That does not name a backup by its digest.", "Ask the operator.")
    return repository, digest


class Repository:
    """A repository, used by one thread.

    Args:
        name: with the registry's host, as in registry.example:5000/backups/demo.
        credentials_file: like Docker's config.json; None for a registry that lets anybody in.
        authority: a file with the certificates that are trusted; None: the machine's own.
        insecure: speak HTTP without TLS.
        patience: seconds without any progress after which a request is given up.
        say: told what is waited for.

    Raises:
        Problem: the name or the credentials make no sense.
    """

    def __init__(
        self,
        name: str,
        *,
        credentials_file: Path | None = None,
        authority: Path | None = None,
        insecure: bool = False,
        patience: float = 600.0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        if not _REPOSITORY.fullmatch(name):
            raise Problem("invalid_repository", "The registry's address makes no sense.", "Ask the operator.")
        self.name = name
        host, _, path = name.partition("/")
        self._path = f"/v2/{path}"
        self._patience = patience
        self._say = say
        self._http = Http(
            f"{'http' if insecure else 'https'}://{host}",
            credentials.read(credentials_file, host, path),
            scope=f"repository:{path}:pull,push",
            authority=authority,
            read_seconds=min(60.0, patience),
        )

    def holds(self, digest: str, size: int) -> bool:
        """Whether a blob of this digest and size is there."""
        answer = self._steady("HEAD", f"{self._path}/blobs/{digest}")
        if answer.status == 404:
            return False
        _expect(answer, 200, "looking for a part")
        return answer.header("Content-Length") == str(size)

    def upload(self, content: bytes) -> str:
        """Bring a blob there, if it is not there yet; its digest. What an interruption left is gone on with."""
        digest = digest_of(content)
        if self.holds(digest, len(content)):
            return digest
        pauses = Pauses(self._patience, self._say)
        upload = _Upload(self._http, f"{self._path}/blobs/uploads/", memoryview(content), digest)
        while True:
            try:
                while upload.step():
                    pauses.progress()
            except Passing as reason:
                pauses.wait(reason)
                if self.holds(digest, len(content)):
                    return digest
                upload.look_again()
            else:
                return digest

    def read(self, digest: str, size: int) -> bytes:
        """A blob, whole and verified.

        Raises:
            Problem: it is missing, or is not what its digest says.
        """
        answer = self._steady("GET", f"{self._path}/blobs/{digest}", limit=size)
        if answer.status == 404:
            raise damaged(f"the part {digest} is missing")
        _expect(answer, 200, "reading a part")
        if len(answer.body) != size or digest_of(answer.body) != digest:
            raise damaged(f"the part {digest} is not what it was")
        return answer.body

    def put_manifest(self, tag: str, content: bytes) -> None:
        """Give the manifest to the registry, under a tag."""
        url, headers = f"{self._path}/manifests/{tag}", {"Content-Type": MANIFEST}
        _expect(self._steady("PUT", url, body=content, headers=headers), 201, "storing the manifest")

    def manifest(self, reference: str) -> bytes | None:
        """A manifest by tag or digest, verified if it is the latter; None when there is none.

        Raises:
            Problem: it is not what its digest says.
        """
        url, headers = f"{self._path}/manifests/{reference}", {"Accept": MANIFEST}
        answer = self._steady("GET", url, headers=headers, limit=LONGEST_MANIFEST)
        if answer.status == 404:
            return None
        _expect(answer, 200, "reading the manifest")
        if ":" in reference and digest_of(answer.body) != reference:
            raise damaged("the manifest is not what it was")
        return answer.body

    def delete_manifest(self, digest: str) -> None:
        """Make the registry forget a manifest; when it frees the parts is its own affair. Gone already is fine.

        Raises:
            Problem: this registry deletes nothing.
        """
        answer = self._steady("DELETE", f"{self._path}/manifests/{digest}")
        if answer.status in {400, 405}:
            raise Problem(
                "registry_keeps",
                "The registry does not delete backups.",
                "Ask the operator to allow deletion there, or to remove old backups by its own rules.",
            )
        if answer.status != 404:
            _expect(answer, 202, "deleting the manifest")

    def _steady(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int = LONGEST_MANIFEST,
    ) -> Answer:
        """A request that may be repeated, until it is answered or patience ends."""
        pauses = Pauses(self._patience, self._say)
        while True:
            try:
                return self._http.once(method, url, body=body, headers=headers, limit=limit)
            except Passing as reason:
                pauses.wait(reason)


class _Upload:
    """A blob on its way, piece by piece."""

    def __init__(self, http: Http, url: str, content: memoryview, digest: str) -> None:
        self._http = http
        self._url = url
        self._content = content
        self._digest = digest
        self._location = ""
        self._sent = 0
        self._piece = _CHUNK

    def step(self) -> bool:
        """The next request; False after the last one."""
        if not self._location:
            self._begin()
        elif self._sent < len(self._content):
            self._send()
        else:
            return self._finish()
        return True

    def look_again(self) -> None:
        """Ask how much of it arrived; where the registry does not know any more, begin again."""
        if not self._location:
            return
        try:
            answer = self._http.once("GET", self._location)
        except Passing:
            return  # The next try says the same, and then patience counts.
        if answer.status == 204:
            self._take(answer)
        else:
            self._location = ""

    def _begin(self) -> None:
        answer = self._http.once("POST", self._url, headers={"Content-Length": "0"})
        _expect(answer, 202, "beginning an upload")
        self._location, self._sent = answer.header("Location"), 0
        least = answer.header("OCI-Chunk-Min-Length")
        if least.isascii() and least.isdigit():
            self._piece = max(_CHUNK, int(least[:9]))

    def _send(self) -> None:
        piece = self._content[self._sent : self._sent + self._piece].tobytes()
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{self._sent}-{self._sent + len(piece) - 1}",
            "Content-Length": str(len(piece)),
        }
        answer = self._http.once("PATCH", self._location, body=piece, headers=headers)
        if answer.status != 202:
            self._lost(answer)
        self._location = answer.header("Location") or self._location
        self._sent += len(piece)

    def _finish(self) -> bool:
        url = f"{self._location}{'&' if '?' in self._location else '?'}digest={self._digest}"
        answer = self._http.once("PUT", url, headers={"Content-Length": "0"})
        if answer.status != 201:
            self._lost(answer)
        return False

    def _lost(self, answer: Answer) -> None:
        """The registry sees this upload differently: it is begun again."""
        self._location = ""
        if answer.status not in {400, 404, 416}:
            _expect(answer, 202, "sending a part")
        raise Passing(f"the upload was answered {answer.status}")

    def _take(self, answer: Answer) -> None:
        self._location = answer.header("Location") or self._location
        first, _, last = answer.header("Range").removeprefix("bytes=").partition("-")
        arrived = int(last) + 1 if first == "0" and last.isdigit() else 0
        # "0-0" stands for one byte, and in some registries for none.
        if arrived <= 1 or arrived > len(self._content):
            self._location = ""
        self._sent = arrived


def damaged(detail: str) -> Problem:
    """A backup that cannot be trusted any more; nothing of such a part is ever unpacked."""
    return Problem("backup_damaged", f"The backup is damaged: {detail}.", _OPERATOR)


def _expect(answer: Answer, status: int, doing: str) -> None:
    if answer.status != status:
        raise Problem("registry_fault", f"The registry answered {answer.status} when {doing}.", _OPERATOR)
