"""A small Debian as the base of images, where the published one cannot be pulled."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

SUITE = "bookworm"
MIRROR = "http://deb.debian.org"
# Not wanted in an image: caches, logs, manuals, translations, what belongs to this machine, and devices, which a
# container gets from its runtime.
LEFT_OUT = (
    "var/cache/*",
    "var/lib/apt/lists/*",
    "var/log/*",
    "usr/share/man/*",
    "usr/share/locale/*",
    "etc/resolv.conf",
    "etc/hostname",
    "dev/*",
)


def bootstrap(root: Path, packages: Iterable[str] = (), suite: str = SUITE) -> None:
    """Make a minimal Debian below `root`, which does not exist yet; half a minute, as root, by debootstrap.

    Raises:
        RuntimeError: debootstrap failed; the text has the end of what it said.
    """
    include = [f"--include={','.join(packages)}"] if packages else []
    command = ["debootstrap", "--variant=minbase", *include, suite, str(root)]
    # In a mount namespace of its own: should it be killed, nothing stays mounted below the folder that goes away.
    made = subprocess.run(["unshare", "--mount", *command], stdout=subprocess.PIPE, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"debootstrap failed:\n{made.stdout[-2000:]}")
    places = [("debian", suite), ("debian", f"{suite}-updates"), ("debian-security", f"{suite}-security")]
    lines = "".join(f"deb {MIRROR}/{archive} {name} main\n" for archive, name in places)
    (root / "etc/apt/sources.list").write_text(lines, encoding="utf-8")


def strip(root: Path) -> None:
    """Remove what an image does not need."""
    for path in (path for pattern in LEFT_OUT for path in root.glob(pattern)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
