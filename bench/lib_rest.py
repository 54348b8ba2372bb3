"""The control plane at rest: memory and processor of each process, and how fast it is up again.

PSS counts each page once, divided among those who share it, so the sum is what the platform really takes.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.lib import Result, Usage, descendants, parent_of, rows, run, usage
from tests.support.platform import Platform

# Part of the command line -> name, the first that fits.
_NAMES = (
    ("valkey-server", "valkey"),
    ("worker\0--pool", "worker"),
    ("beat\0--loglevel", "beat"),
    ("-m\0gateway", "gateway"),
    ("gunicorn", "web"),
    ("manage.py\0up", "supervisor"),
    ("manage.py\0operator", "operator"),
)
_SUMMED = ("rss_mib", "pss_mib", "cpu_percent")


def measure(quick: bool) -> Result:  # noqa: FBT001 - The signature that `bench.lib.run` calls.
    """One start, a rest, a look at every process, and some more starts."""
    settle, sample, starts = (5.0, 10.0, 1) if quick else (20.0, 30.0, 3)
    with Platform() as platform:
        time.sleep(settle)
        supervisor = parent_of(platform.pid_of("web"))
        names = named(supervisor)
        if len(set(names.values())) < len(names):
            raise RuntimeError(f"some processes are there twice: {names}")
        before = {pid: usage(pid) for pid in names}
        began = time.monotonic()
        time.sleep(sample)
        elapsed = time.monotonic() - began
        after = {pid: usage(pid) for pid in names}
        up = []
        for _ in range(starts):
            platform.stop()
            up.append(round(platform.start(), 2))
    found = {name: _difference(before[pid], after[pid], elapsed) for pid, name in names.items()}
    total = {key: round(sum(one[key] for one in found.values()), 2) for key in _SUMMED}
    return {"benchmark": "rest", "settle_s": settle, "sample_s": sample, "total": total, "second_start_s": up,
            "processes": [{"process": name, **figures} for name, figures in found.items()]}  # fmt: skip


def named(supervisor: int) -> dict[int, str]:
    """What each process below `manage.py up` is called, by its id."""
    found: dict[int, str] = {}
    for pid in descendants(supervisor):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        name = next((name for part, name in _NAMES if part in line), line.split("\0")[0])
        if name == "web":
            name = "web worker" if parent_of(pid) != supervisor else "web master"
        found[pid] = name
    return found


def _difference(before: Usage, after: Usage, elapsed: float) -> dict[str, float]:
    return {
        "rss_mib": round(after.rss, 1),
        "pss_mib": round(after.pss, 1),
        "cpu_percent": round((after.cpu - before.cpu) / elapsed * 100, 2),
        "wakeups_per_second": round((after.switches - before.switches) / elapsed, 1),
    }


def table(result: Result) -> str:
    """A line per process."""
    columns = (*_SUMMED, "wakeups_per_second")
    body = [[line["process"], *(line[key] for key in columns)] for line in result["processes"]]
    body.append(["sum", *(result["total"][key] for key in _SUMMED), None])
    lines = rows(("at rest", "RSS MiB", "PSS MiB", "% of a core", "wakeups/s"), body)
    return f"{lines}\nup again after: {', '.join(f'{seconds:.1f} s' for seconds in result['second_start_s'])}"


def main() -> None:
    """Run it."""
    run("Memory and processor of the control plane at rest, and how fast it is up again.", measure, table)
