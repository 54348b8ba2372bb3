"""What a repository is written in, as the parts of a bar. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

MOST = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """One part of the bar: `x` and `width` in percent; `rank` chooses its colour, 0 for the largest."""

    name: str
    percent: float
    x: float
    width: float
    rank: int


def shares(languages: Mapping[str, int]) -> list[Share]:
    """The largest languages and, where there are more, the others together; empty where nothing is known."""
    counted = sorted(((count, name) for name, count in languages.items() if count > 0), reverse=True)
    total = sum(count for count, _ in counted)
    parts = [(name, count) for count, name in counted[:MOST]]
    rest = sum(count for count, _ in counted[MOST:])
    if rest:
        parts.append(("Other", rest))
    found: list[Share] = []
    before = 0
    for rank, (name, count) in enumerate(parts):
        share = 100 * count / total
        found.append(Share(name, round(share, 1), round(100 * before / total, 2), round(share, 2), rank))
        before += count
    return found
