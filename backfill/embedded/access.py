"""Who may open a session: the account that runs Backfill and the server's own, through the socket.

initdb's own rules would let every local user connect over TCP as anybody, should the server ever be
told to listen. Ours have no line for TCP. Through the socket PostgreSQL asks the kernel who is there
("peer"), and a map lets these accounts be any role: root's server runs as another account than its
client, so that a plain "peer" would refuse both.
"""

import os
from pathlib import Path

from backfill.embedded.user import ServerUser, account_name, server_uid

MAP = "backfill"
RULES = f"""# Written by Backfill. Sessions through the socket only, of the accounts in pg_ident.conf; none over TCP.
local all all peer map={MAP}
local replication all peer map={MAP}
"""
ALL_ROLES_FROM = 16  # before that a line of pg_ident.conf names one role

# The folder is the server's, and what root writes there a link could lead elsewhere: its user writes.
WRITE = 'umask 077 && printf %s "$2" > "$1/pg_hba.conf" && printf %s "$3" > "$1/pg_ident.conf"'


def write_rules(data: Path, user: ServerUser, major: int, role: str) -> None:
    """Replace the rules that initdb wrote. Raises ``OSError``."""
    roles = "all" if major >= ALL_ROLES_FROM else role
    names = {account_name(os.geteuid()), account_name(server_uid())} - {None}
    lines = "".join(f'{MAP} "{name}" {roles}\n' for name in sorted(str(name) for name in names))
    done = user.run("/bin/sh", "-c", WRITE, "sh", data, RULES, f"# Written by Backfill.\n{lines}")
    if done.returncode != 0:
        raise OSError(done.stderr.strip() or "cannot write pg_hba.conf")
