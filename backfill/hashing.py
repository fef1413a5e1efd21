"""Pure: address text and salt become a hash; the salt is a type of its own that cannot be printed."""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from pathlib import Path

from backfill.errors import SaltUnusable
from backfill.plan import Scheme

MIN_SALT_BYTES = 16  # below 128 bits a salt can be found by trying

# Interactive-login cost: a verifier is computed once a command, a guess costs the attacker the same.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1


class Salt:
    """The live application's salt. ``repr``, ``str`` and pickling give nothing away."""

    __slots__ = ("_value",)

    def __init__(self, value: str, *, source: str, allow_weak: bool = False) -> None:
        """Raises ``SaltUnusable`` for an empty or, unless *allow_weak*, a short one."""
        if not value:
            raise SaltUnusable(source=source, problem="it is empty")
        if len(value.encode()) < MIN_SALT_BYTES and not allow_weak:
            raise SaltUnusable(
                source=source,
                problem=f"it is shorter than {MIN_SALT_BYTES} bytes; if the live salt is what it is, "
                "give --allow-weak-salt",
            )
        self._value = value.encode()

    def __repr__(self) -> str:
        return "Salt(…)"

    def __reduce__(self) -> str:
        raise TypeError("a salt does not travel between processes")

    def verifier(self, nonce: bytes) -> bytes:
        """32 bytes of scrypt over the salt: what the ledger keeps to tell one salt from another."""
        return hashlib.scrypt(self._value, salt=nonce, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, dklen=32)

    def hasher(self, scheme: Scheme) -> Callable[[str], str]:
        """The function address text → 64 lower-case hex digits for *scheme*."""
        salt, sha256 = self._value, hashlib.sha256
        match scheme:
            case Scheme.SHA256_SUFFIX:
                return lambda text: sha256(text.encode() + salt).hexdigest()
            case Scheme.SHA256_PREFIX:
                return lambda text: sha256(salt + text.encode()).hexdigest()
            case Scheme.SHA256_UNSALTED:
                return lambda text: sha256(text.encode()).hexdigest()
            case Scheme.HMAC_SHA256:
                return lambda text: hmac.digest(salt, text.encode(), "sha256").hex()


def read_salt_file(path: Path, *, allow_weak: bool = False) -> Salt:
    """The salt in *path*, one trailing line end removed. Raises ``SaltUnusable``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise SaltUnusable(source=path, problem=problem) from error
    return Salt(text.removesuffix("\n").removesuffix("\r"), source=str(path), allow_weak=allow_weak)


def make_salt_file(path: Path) -> Salt:
    """The salt in *path*; a new random one, mode 0600, where there is none. For the demo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            path.chmod(0o600)
            file.write(secrets.token_hex(32) + "\n")
    except FileExistsError:
        pass
    return read_salt_file(path)
