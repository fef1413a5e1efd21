"""Keys: which salt a key id stands for, told by an scrypt verifier and never by the salt."""

import hmac
import secrets

from sqlalchemy import Connection, select

from backfill.errors import SaltMismatch
from backfill.hashing.salt import Salt
from backfill.ledger.tables import keys


def check_key(connection: Connection, key_id: str, salt: Salt) -> bool:
    """Whether *key_id* is on record. Raises ``SaltMismatch`` when it stands for another salt."""
    row = connection.execute(select(keys).where(keys.c.key_id == key_id)).one_or_none()
    if row is None:
        return False
    if not hmac.compare_digest(salt.verifier(bytes(row.nonce)), bytes(row.verifier)):
        raise SaltMismatch(key_id=key_id)
    return True


def record(connection: Connection, key_id: str, salt: Salt) -> None:
    """Put *key_id* on record for this salt, where it is not yet. Raises ``SaltMismatch``."""
    if not check_key(connection, key_id, salt):
        nonce = secrets.token_bytes(16)
        connection.execute(keys.insert().values(key_id=key_id, nonce=nonce, verifier=salt.verifier(nonce)))
