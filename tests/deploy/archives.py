"""Reads image archives (OCI image layout) as our builder writes them."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any


class Archive:
    """One image with one manifest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.digest: str = self._json("index.json")["manifests"][0]["digest"]
        self.manifest = self._json(_blob(self.digest))
        self.config: dict[str, Any] = self._json(_blob(self.manifest["config"]["digest"]))

    def _json(self, name: str) -> Any:
        with tarfile.open(self.path) as tar:
            content = tar.extractfile(name)
            assert content
            return json.load(content)

    def unpack(self, target: Path) -> None:
        """All layers, one over the other; nothing that deletes is expected in them."""
        with tarfile.open(self.path) as tar:
            for layer in self.manifest["layers"]:
                content = tar.extractfile(_blob(layer["digest"]))
                assert content
                with gzip.open(content) as plain, tarfile.open(fileobj=plain, mode="r|") as files:
                    files.extractall(target, filter="tar")


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
