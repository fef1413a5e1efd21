"""Gates: what a revision asks before it changes anything, and the changes themselves.

A revision calls one function and holds no logic. Each function names its conditions, shows their
evidence, and refuses with the command that fixes what does not hold. There is no ``--force``.
"""

from backfill.gates.gate import GateClosed
from backfill.gates.operations import (
    drop_address_column,
    drop_column,
    drop_discarded_column,
    drop_raw_column,
    guard_links,
    make_address_optional,
    make_hash_required,
    propose_hash_required,
    require_coverage,
    require_no_guard,
    restore_address_column,
    restore_address_required,
    restore_column,
    restore_hash_optional,
    restore_raw_column,
    unguard_links,
    unpropose_hash_required,
    unvalidate_links,
    validate_links,
)

__all__ = [
    "GateClosed",
    "drop_address_column",
    "drop_column",
    "drop_discarded_column",
    "drop_raw_column",
    "guard_links",
    "make_address_optional",
    "make_hash_required",
    "propose_hash_required",
    "require_coverage",
    "require_no_guard",
    "restore_address_column",
    "restore_address_required",
    "restore_column",
    "restore_hash_optional",
    "restore_raw_column",
    "unguard_links",
    "unpropose_hash_required",
    "unvalidate_links",
    "validate_links",
]
