"""HMAC with SHA-256: the salt is the key, the address the message."""

import hmac

from backfill.hashing.scheme import HashScheme

HMAC_SHA256 = HashScheme("hmac-sha256", lambda text, salt: hmac.digest(salt, text, "sha256").hex())
