"""SHA-256 of address and salt in one text."""

from hashlib import sha256

from backfill.hashing.scheme import HashScheme

# sha256(address + salt): the formula of PyPI's application
SHA256_SUFFIX = HashScheme("sha256-suffix", lambda text, salt: sha256(text + salt).hexdigest())
# sha256(salt + address)
SHA256_PREFIX = HashScheme("sha256-prefix", lambda text, salt: sha256(salt + text).hexdigest())
# sha256(address): an edge that forgot the salt
SHA256_UNSALTED = HashScheme("sha256-unsalted", lambda text, salt: sha256(text).hexdigest())
