"""The OS user that runs the embedded server: ourselves, or an unprivileged one where we are root.

PostgreSQL refuses to run as root, and initdb refuses a user id without a passwd entry, so root
lends the server an existing account that owns nothing. Others may run as that account too, and the
server trusts whoever reaches its socket: a group id that nobody else has, on the folder above the
socket, keeps them out.
"""

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ACCOUNTS = ("nobody", "daemon")  # the first of these that exists
GROUPS = range(60_578, 61_184)  # ids that neither distributions nor systemd hand out

# The server gets nothing else of our environment: the salt and a database URL may be in it, and a
# PGPORT or PGDATA would lead it astray.
KEPT_VARIABLES = ("PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


@dataclass(frozen=True)
class ServerUser:
    """User and group id to run as; None: as ourselves."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def choose(cls, gid: int) -> Self:
        """The user to run as. *gid*, the group given before, is kept; 0 means that none was given yet.

        Raises ``LookupError`` where root finds no account or group to lend.
        """
        if os.geteuid() != 0:
            return cls()
        return cls(_unprivileged_account(), gid or _free_group())

    def run(self, *command: str | Path, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
        """Run *command* as this user, deaf to the terminal's Ctrl-C, and wait for it.

        Raises ``OSError`` where this user cannot reach the program.
        """
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        return subprocess.run(
            [os.fspath(word) for word in command],
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            env={"PATH": os.defpath, **kept, "LC_ALL": "C"},
            cwd="/",  # ours may be a folder that this user cannot enter
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            check=False,
        )

    def reaches(self, folder: Path) -> bool:
        """Whether this user can enter *folder*: tried, since mode bits are not the whole truth."""
        return self.uid is None or self.run("/bin/sh", "-c", 'cd "$1"', "sh", folder).returncode == 0

    def admit(self, folder: int) -> None:
        """Let this user, by its group, pass through *folder* of ours; everybody else stays out.

        Folders are given by descriptor: a path might mean another folder by now.
        """
        if self.gid is None:
            os.fchmod(folder, 0o700)
        else:
            os.fchown(folder, 0, self.gid)
            os.fchmod(folder, 0o710)

    def give(self, folder: int) -> None:
        """Make *folder* this user's own and nobody else's."""
        if self.uid is not None and self.gid is not None:
            os.fchown(folder, self.uid, self.gid)
        os.fchmod(folder, 0o700)


def server_uid() -> int:
    """The user id that the server's files and process have: ours, or the lent account's where we are root."""
    if os.geteuid() != 0:
        return os.geteuid()
    try:
        return _unprivileged_account()
    except LookupError:
        return 0


def account_name(uid: int) -> str | None:
    """The name of *uid*; None where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _unprivileged_account() -> int:
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name).pw_uid
        except KeyError:
            continue
    raise LookupError(f"no unprivileged account to run as (looked for {', '.join(ACCOUNTS)})")


def _free_group() -> int:
    for gid in GROUPS:
        try:
            grp.getgrgid(gid)
        except KeyError:
            return gid
    raise LookupError("no free group id to run with")
