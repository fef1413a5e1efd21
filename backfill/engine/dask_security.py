"""What makes a Dask cluster one that only we can talk to: TLS with certificates on both sides.

Whoever can talk to a Dask scheduler runs code on its workers, and what comes back is unpickled by whoever
asked. A bare ``dask scheduler`` asks nobody for a name, on loopback neither: every user of the machine can
connect. So there is no exception for loopback; on one machine ``--workers`` does the same work.
"""

import stat
from pathlib import Path
from typing import Any

from backfill.errors import DaskInsecure

# As Dask reads its configuration: ~/.config/dask/*.yaml, or a variable for each.
VARIABLES = {
    "tls_ca_file": "DASK_DISTRIBUTED__COMM__TLS__CA_FILE",
    "tls_client_cert": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT",
    "tls_client_key": "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY",
}
SCHEME = "tls://"


def security(address: str) -> Any:
    """Dask's ``Security`` for a client of *address*, from Dask's own configuration. Raises ``DaskInsecure``."""
    from distributed.security import Security

    if not address.startswith(SCHEME):
        raise DaskInsecure(address=address, problem="it is not a tls:// address")
    found: Any = Security(require_encryption=True)  # type: ignore[no-untyped-call]
    for name, variable in VARIABLES.items():
        value = getattr(found, name)
        if not value:
            raise DaskInsecure(address=address, problem=f"{variable} is not set")
        if "-----BEGIN" in str(value):
            continue  # Dask takes the content of a file as well
        path = Path(str(value))
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise DaskInsecure(address=address, problem=f"{variable}: {path}: {error.strerror}") from None
        if not stat.S_ISREG(mode):
            raise DaskInsecure(address=address, problem=f"{variable}: {path} is no file")
        if name == "tls_client_key" and mode & 0o077:
            raise DaskInsecure(address=address, problem=f"others may read {path}: `chmod 600 {path}`")
    return found


def require_encrypted(scheduler: str, workers: Any) -> None:
    """Every address in use is encrypted. Raises ``DaskInsecure``.

    A scheduler can listen on both kinds of address at once, and a stranger uses the open one.
    """
    for who, one in (("scheduler", scheduler), *(("worker", str(worker)) for worker in workers)):
        if not one.startswith(SCHEME):
            raise DaskInsecure(address=scheduler, problem=f"the {who} {one} listens without TLS")
