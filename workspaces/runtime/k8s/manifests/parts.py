"""What all manifests share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

Manifest = dict[str, Any]


class Located(Protocol):
    """Where objects are: their namespace, what they are called unless told otherwise, and the labels of all of them."""

    @property
    def namespace(self) -> str:
        """A name."""
        ...

    @property
    def name(self) -> str:
        """A name."""
        ...

    @property
    def labels(self) -> dict[str, str]:
        """By which they are found again."""
        ...


def manifest(
    kind: str,
    api: str,
    place: Located,
    *,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **body: Any,
) -> Manifest:
    """An object in this place, with its labels."""
    meta: Manifest = {
        "name": name or place.name,
        "namespace": place.namespace,
        "labels": {**place.labels, **(labels or {})},
    }
    if annotations:
        meta["annotations"] = dict(annotations)
    return {"apiVersion": api, "kind": kind, "metadata": meta, **body}


_UNITS = (("Ti", 2**40), ("Gi", 2**30), ("Mi", 2**20), ("Ki", 2**10))


def size(number: int) -> str:
    """Bytes in the largest unit that divides them, as people read them in the cluster's own messages."""
    unit, factor = next(((unit, factor) for unit, factor in _UNITS if number and number % factor == 0), ("", 1))
    return f"{number // factor}{unit}"


def cores(number: float) -> str:
    """Cores, whole or in thousandths."""
    return str(int(number)) if float(number).is_integer() else f"{max(1, round(number * 1000))}m"
