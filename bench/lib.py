"""What the benchmarks share: options, percentiles, tables, and what a process uses."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")
Result = dict[str, Any]


def run(description: str, measure: Callable[[bool], Result], table: Callable[[Result], str]) -> None:
    """A benchmark's main: measure (told whether to be quick), print the table and, if asked for, JSON."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: for a look rather than a figure")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args()
    # Being told to end is an end like any other: what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    before = os.getloadavg()[0]
    result = measure(options.quick)
    result["machine"] = {"cores": os.cpu_count(), "load_before": round(before, 2)}
    print(table(result))
    print(f"{os.cpu_count()} cores; load average before the run: {before:.2f}")
    if options.json:
        print(json.dumps(result))


def percentile(values: Sequence[float], share: int) -> float:
    """The value below which `share` percent (1 to 99) of the values lie, interpolated; a single value is its own."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def summary(values: Sequence[float], *shares: int, digits: int = 3) -> dict[str, float]:
    """`{"p50": …, "p95": …}` of the values."""
    return {f"p{share}": round(percentile(values, share), digits) for share in shares}


def rows(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    """A table of text: the first column to the left, the others to the right."""
    lines = [[_cell(value) for value in line] for line in [head, *body]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:,.2f}" if isinstance(value, float) else str(value)


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses.

    Attributes:
        rss, pss: MiB; PSS shares out the pages that processes have in common, so that it may be added up.
        cpu: seconds of processor time so far.
        switches: how often it gave up the processor so far, which is about how often it woke up.
    """

    rss: float
    pss: float
    cpu: float
    switches: int


def usage(pid: int) -> Usage:
    """What a process uses right now.

    Raises:
        OSError: it is gone, or not ours to look at.
    """
    folder = Path(f"/proc/{pid}")
    memory = _fields(folder / "smaps_rollup")
    ticks = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    switches = 0
    for task in (folder / "task").iterdir():
        with contextlib.suppress(OSError):  # Threads come and go.
            switches += int(_fields(task / "status")["voluntary_ctxt_switches"].split()[0])
    return Usage(
        rss=int(memory["Rss"].split()[0]) / 1024,
        pss=int(memory["Pss"].split()[0]) / 1024,
        cpu=(int(ticks[11]) + int(ticks[12])) / _TICKS,
        switches=switches,
    )


def _fields(path: Path) -> Mapping[str, str]:
    pairs = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs if value.strip()}


def parent_of(pid: int) -> int:
    """The parent of a process."""
    return int(_fields(Path(f"/proc/{pid}/status"))["PPid"])


def descendants(pid: int) -> Iterator[int]:
    """A process and all below it, parents first."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # Threads come and go.
            for child in (task / "children").read_text().split():
                yield from descendants(int(child))
