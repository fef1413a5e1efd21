"""Calibrate: which hash scheme explains the hashes that the live application has stored.

A live hash is the truth. When ours differ, every ban and every correlation would silently break,
so a run refuses to start until the configured scheme explains all of them, or the operator has
accepted the exact number of mismatches.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from psycopg2 import sql
from sqlalchemy import Engine

from backfill.addresses import Reason, canonical_text, canonicalise
from backfill.database.blocks import heap_of, ranges
from backfill.database.columns import has_column
from backfill.database.connection import rows
from backfill.database.decodable import if_decodable
from backfill.database.quoting import table
from backfill.errors import CalibrationFailed, SchemaUnfit
from backfill.hashing.salt import Salt
from backfill.hashing.schemes import scheme_names
from backfill.jobs.row_needs import may_be_address, raw_text
from backfill.plan import Addresses, IntoJob

BLOCKS = 5_000  # addresses are read 40 MB at a time

PAIRS = sql.SQL("""
    select host(known.{address}), masklen(known.{address}), {readable_hash}
      from {addresses} as known
     where known.{hash} is not null and {in_range}
       and known.{address} is not null     -- optional from some revision on: the hash alone is left
       and masklen(known.{address}) = case family(known.{address}) when 4 then 32 else 128 end  -- a network is no address
""")


# Of a job whose hashes go into another column: what stands there already. By ranges, as the address table: no
# transaction is long, and every row is counted.
PAIRS_BESIDE = sql.SQL("""
    select {text}, {readable_hash}, count(*) from {table} as event
     where event.{raw} is not null and event.{into} is not null and {may_be_address} and {in_range}
     group by 1, 2
""")
REMEMBERED = 1 << 16  # hashes: the same addresses come again in every range


@dataclass(frozen=True)
class Calibration:
    """How many of the stored pairs each scheme explains."""

    pairs: int
    explained: Mapping[str, int]  # by the scheme's name

    def best(self) -> str:
        """The scheme that explains most; the configured order decides a tie."""
        return max(self.explained, key=lambda scheme: self.explained[scheme])


def spellings(host: str, masklen: int) -> set[str]:
    """The texts whose hash a row may rightly carry: its canonical form, and its own spelling.

    The edge hashes what it saw; where that was ``::ffff:1.2.3.4``, so was the hash.
    """
    if masklen == 32 and ":" not in host:
        return {host}  # IPv4 as the server writes it is canonical; nine tenths of the pairs are that
    address = canonicalise(host)
    found = {host if masklen == (128 if ":" in host else 32) else f"{host}/{masklen}"}
    if not isinstance(address, Reason):
        found.add(str(address))
    return found


def calibrate(
    engine: Engine, addresses: Addresses, salt: Salt, schemes: Iterable[str] | None = None
) -> Calibration:
    """Try *schemes*, or all that there are, on every stored (address, hash) pair."""
    hashers = {scheme: salt.hasher(scheme) for scheme in schemes or scheme_names()}
    pairs, explained = 0, dict.fromkeys(hashers, 0)
    with engine.begin() as connection:
        if not has_column(connection, addresses, addresses.address):
            raise SchemaUnfit(
                problem=f"{addresses.name}.{addresses.address} is gone: no stored hash can be compared with its address."
            )
        blocks = heap_of(connection, addresses).blocks
    for span in ranges(blocks, BLOCKS):
        statement = PAIRS.format(
            address=sql.Identifier(addresses.address),
            hash=sql.Identifier(addresses.hash),
            readable_hash=if_decodable(sql.Identifier("known", addresses.hash), sql.Literal("")),
            addresses=table(addresses),
            in_range=span.holds("known"),
        )
        with engine.begin() as connection:
            found = rows(connection, statement)
        for host, masklen, live in found:
            pairs += 1
            texts = spellings(host, masklen)
            for scheme, hasher in hashers.items():
                explained[scheme] += live in {hasher(text) for text in texts}
    return Calibration(pairs, explained)


def calibrated(engine: Engine, addresses: Addresses, salt: Salt, scheme: str) -> Calibration:
    """*scheme* alone where it explains every pair, which is what a run hopes for; else all of them."""
    alone = calibrate(engine, addresses, salt, (scheme,))
    return alone if alone.explained[scheme] == alone.pairs else calibrate(engine, addresses, salt)


def own_hashes(engine: Engine, job: IntoJob, salt: Salt, scheme: str) -> Calibration:
    """How many of the hashes that stand beside raw values of *job* are of that salt and scheme, whoever wrote them."""
    hasher, pairs, right = lru_cache(REMEMBERED)(salt.hasher(scheme)), 0, 0
    into = sql.SQL('(event.{}::pg_catalog.text collate pg_catalog."C")').format(sql.Identifier(job.into))
    with engine.begin() as connection:
        blocks = heap_of(connection, job).blocks
    for span in ranges(blocks, BLOCKS):
        statement = PAIRS_BESIDE.format(
            text=raw_text(job),
            readable_hash=if_decodable(into, sql.Literal("")),
            table=table(job),
            raw=sql.Identifier(job.raw),
            into=sql.Identifier(job.into),
            may_be_address=may_be_address(raw_text(job)),
            in_range=span.holds("event"),
        )
        with engine.begin() as connection:
            found = rows(connection, statement)
        for text, live, number in found:
            address = canonicalise(text)
            if not isinstance(address, Reason):
                pairs += number
                right += number * (live == hasher(canonical_text(address)))
    return Calibration(pairs, {scheme: right})


def against(found: Calibration, scheme: str, confirmed: int) -> int:
    """Of what stands beside raw values, hashes that speak against salt or scheme.

    *confirmed*: hashes that the application wrote itself, and that agree. Where more disagree, they are out of date at
    best; fewer are for ``verify`` to tell.
    """
    others = found.pairs - found.explained[scheme]
    return others if others > confirmed else 0


def require_own_hashes(
    job: IntoJob, found: Calibration, scheme: str, confirmed: int, asked: int, accepted_mismatches: int
) -> None:
    """Raises ``CalibrationFailed`` where what stands beside raw values of *job* speaks against salt or scheme.

    *confirmed*: as in ``against``; *asked*: what of all parts of the run has to be accepted, in one number.
    """
    if against(found, scheme, confirmed) and asked != accepted_mismatches:
        said = f"{scheme} explains {found.explained[scheme]:,} of {found.pairs:,} hashes that stand in {job.name}.{job.into} already"
        if found.explained[scheme] != confirmed:
            said += f", of which the application itself wrote {confirmed or 'none'}, as far as is known"
        raise CalibrationFailed(
            problem=f"{said}: the salt, or the scheme in the plan, is probably not that of the live application. Nothing was "
            f"changed. If the column holds something else: --accept-mismatches {asked}; `backfill verify` counts it as wrong."
        )


def require(calibration: Calibration, scheme: str, accepted_mismatches: int, beside: int = 0) -> int:
    """The number of mismatches. Raises ``CalibrationFailed`` unless there are none, or it is the accepted one, with those
    *beside* raw values.
    """
    mismatches = calibration.pairs - calibration.explained[scheme]
    if not mismatches or mismatches + beside == accepted_mismatches:
        return mismatches
    best = calibration.best()
    if best != scheme and calibration.explained[best] > calibration.explained[scheme]:
        advice = (
            f"{best} explains {calibration.explained[best]:,}: name it in the plan (scheme under [hash]), "
            "if that is what the live application does"
        )
    elif calibration.explained[scheme] == 0:
        advice = "no scheme explains any: the salt is probably not the live application's"
    else:
        advice = f"look into the {mismatches:,} others, or accept them with --accept-mismatches {mismatches + beside}"
        if beside:
            advice += f", of which {beside:,} stand beside raw values"
    raise CalibrationFailed(
        problem=f"{scheme} explains {calibration.explained[scheme]:,} of {calibration.pairs:,} live hashes; "
        f"{advice}. Nothing was changed."
    )
