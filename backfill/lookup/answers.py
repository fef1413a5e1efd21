"""Answers: what a lookup found, for people and for programs; never an address, and names of accounts only when asked."""

from collections.abc import Iterator, Sequence
from typing import Any

from backfill import escaping
from backfill.lookup.address_rows import AddressRow
from backfill.lookup.event_rows import Count
from backfill.lookup.hash_keys import HashKeys, Spelling
from backfill.lookup.known_rows import KnownRow
from backfill.lookup.lookup import Answer, Lookup
from backfill.lookup.question import INSTEAD, Kind, Question
from backfill.report.document import Block, Cell, Column, Document, Entries, Entry, Note, Section, Table

SHOWN = 20  # answers that text shows; JSON has them all


def as_json(found: Lookup, questions: Sequence[Question], *, with_data: bool = False) -> dict[str, Any]:
    """Plain data. *with_data*: with names of accounts, and raw addresses as far as rows still have them."""
    of = {(one.question.kind, one.question.number): one for one in found.answers}
    return {
        "scheme": found.keys.scheme,
        "key_ids": [{"key_id": key.key_id, "on_record": key.on_record} for key in found.keys.asked],
        "key_ids_not_asked": list(found.keys.not_asked),
        "asked": [{"table": one.table, "by": dict(one.by), "how": one.how} for one in found.asked],
        "not_asked": [vars(one) for one in found.not_asked],
        "rows_without_hash": found.lacking,
        "answers": [
            {"number": one.number, "kind": one.kind.value, "problem": one.problem and one.problem.value}
            if (answer := of.get((one.kind, one.number))) is None
            else _plain(answer, with_data=with_data)
            for one in questions
        ],
    }


def _plain(answer: Answer, *, with_data: bool) -> dict[str, Any]:
    question, accounts = answer.question, answer.accounts
    return {
        "number": question.number,
        "kind": question.kind.value,
        **({"named": question.named} if question.named else {}),
        "problem": None,
        "seen": answer.seen,
        "sentinel": answer.is_sentinel,
        "hashes": dict(answer.hashes),
        "rows": [_plain_row(one, with_data=with_data) for one in answer.rows],
        "events": [_plain_count(label, count) for label, count in answer.counts.items()],
        "accounts": None if accounts is None else len(accounts),
        **({"account_names": [vars(one) for one in accounts or ()]} if with_data else {}),
    }


def _plain_row(known: KnownRow, *, with_data: bool) -> dict[str, Any]:
    row = known.row
    return {
        "key": row.key,
        "found_by": list(known.by),
        "hash": row.hash,
        "key_id": known.key_id,
        "hash_of": known.spelling and known.spelling.value,
        "ban": row.ban and vars(row.ban),
        "place": row.place,
        "place_source": place_source(row),
        **({"address": row.host and f"{row.host}/{row.bits}"} if with_data else {}),
    }


def _plain_count(label: str, count: Count) -> dict[str, Any]:
    return {
        "table": label,
        "rows": count.rows,
        "by_link": count.linked,
        "by_raw_text": count.spelled,
        "first": count.first,
        "last": count.last,
    }


def place_source(row: AddressRow) -> str | None:
    """Where the row's place comes from, as far as that is known."""
    if row.place is None:
        return None
    looked = [f"{one.source} of {one.build}" for one in row.lookups if one.found]
    if not looked:
        return "the live application"
    return f"{', '.join(looked)}, or the live application before"


def document(found: Lookup, questions: Sequence[Question], *, allowed: str) -> Document:
    """For a terminal: the first answers, and what they rest on. *allowed*: how to have the rest."""
    of = {(one.question.kind, one.question.number): one for one in found.answers}
    sections = []
    for one in questions[:SHOWN]:
        answer = of.get((one.kind, one.number))
        blocks = (
            (Note(f"Not asked: {INSTEAD[one.problem]}."),)
            if answer is None and one.problem
            else tuple(_blocks(answer))
            if answer
            else ()
        )
        sections.append(Section(f"{one.kind}-{one.number}", _title(one, len(questions)), blocks))
    if len(questions) > SHOWN:
        more = escaping.counted(len(questions) - SHOWN, "more answer", "more answers")
        sections.append(Section("more", "Not shown", (Note(f"{more}: {allowed}"),)))
    sections.append(Section("asked", "What was asked", tuple(_rest(found, questions))))
    seen = sum(one.seen for one in found.answers)
    banned = sum(_is_banned(one) for one in found.answers)
    verdict = f"{escaping.counted(len(found.answers), 'question', 'questions')} asked: {seen:,} known here, {banned:,} banned."
    return Document("Lookup", verdict, not banned, tuple(sections))


def _title(question: Question, number: int) -> str:
    if question.kind is Kind.ADDRESS:
        return "The address" if number == 1 else f"Address on line {question.number}"
    return f"{question.kind.capitalize()} {question.named}"


def _is_banned(answer: Answer) -> bool:
    return any(one.row.ban is not None and one.row.ban.banned for one in answer.rows)


def _blocks(answer: Answer) -> Iterator[Block]:
    if answer.is_sentinel:
        yield Note("This is the sentinel: events linked to it have no address.")
    if answer.hashes:
        yield Entries("Hashes", tuple(Entry(f"key id {key}", value) for key, value in answer.hashes.items()))
    if not answer.rows:
        yield Note("No row of the address table: not banned there, as far as was asked.")
    for known in answer.rows:
        yield Entries(_row_caption(known), tuple(_entries(known)))
    if answer.counts:
        columns = ("table", "rows", "by link", "by raw text", "first", "last")
        body = [
            tuple(map(Cell, (label, one.rows, one.linked, one.spelled, one.first, one.last)))
            for label, one in answer.counts.items()
        ]
        numbers = columns[1:4]
        yield Table("Events", tuple(Column(name, number=name in numbers) for name in columns), tuple(body))
        if answer.accounts is None:
            yield Note(
                "Accounts: not asked, since there is no table users with an id and a username that this role may read."
            )
        else:
            yield Note(f"Accounts of these events: {len(answer.accounts):,}.")
    else:
        yield Note("No event, as far as was asked.")


def _row_caption(known: KnownRow) -> str:
    what = "Row of a network around it" if known.of_network else "Row"
    return f"{what} {known.row.key}, found by {' and '.join(known.by)}"


def _entries(known: KnownRow) -> Iterator[Entry]:
    row = known.row
    yield Entry("hash", _hash(known))
    if row.ban is None:
        yield Entry("ban", "the plan names no columns of bans")
    elif row.ban.banned:
        since = f" since {row.ban.date}" if row.ban.date else ""
        yield Entry("ban", f"banned{since}{f', reason {row.ban.reason}' if row.ban.reason else ''}")
    else:
        yield Entry("ban", "not banned")
    if row.place is None:
        looked = ", ".join(f"{one.source} of {one.build}" for one in row.lookups if not one.found)
        yield Entry("place", f"none; not in {looked}" if looked else "none")
    else:
        names = ("city", "region", "country_code", "country_name")
        shown = ", ".join(
            str(row.place[name]) for name in names if row.place.get(name) not in (None, "", "?")
        )
        yield Entry("place", f"{shown or 'without city, region or country'} (from {place_source(row)})")


def _hash(known: KnownRow) -> str:
    row = known.row
    if row.hash is None:
        return "none yet"
    if known.spelling is None:
        return row.hash
    under = f" under key id {known.key_id}" if known.key_id else ""
    if known.spelling is Spelling.NETWORK:
        return f"{row.hash}, of a network: no address has it"
    if not known.key_id and known.spelling is not Spelling.UNSALTED:
        return f"{row.hash}, which no key id explains that was asked"
    return f"{row.hash}, of the {known.spelling.value}{under}"


def _rest(found: Lookup, questions: Sequence[Question]) -> Iterator[Block]:
    yield Entries("Key ids", tuple(_keys(found.keys, questions)))
    body = [
        tuple(map(Cell, (one.table, ", ".join(f"{name} ({way})" for name, way in one.by.items()), one.how)))
        for one in found.asked
    ]
    yield Table("Tables", (Column("table"), Column("by"), Column("how")), tuple(body))
    if found.not_asked:
        left = tuple(Entry(one.table, one.why) for one in found.not_asked)
        yield Entries("Not asked, so that nothing is known of it there", left)
    if found.lacking and any(one.kind is not Kind.ADDRESS for one in questions):
        lack = escaping.counted(
            found.lacking, "row of the address table has", "rows of the address table have"
        )
        yield Note(
            f"{lack} no hash yet, and events without a link none at all: a hash does not find them. Ask by address, or "
            "after `backfill run`."
        )
    yield Note(
        "Addresses in other columns, and in text that no plan names: `backfill scan`. In logs and backups: not asked."
    )


def _keys(keys: HashKeys, questions: Sequence[Question]) -> Iterator[Entry]:
    for key in keys.asked:
        yield Entry(
            key.key_id,
            f"asked, by {keys.scheme}"
            if key.on_record
            else f"asked, by {keys.scheme}; it is not on record, so nothing confirms that its salt is the application's",
        )
    if not keys.asked:
        needless = all(one.kind is not Kind.ADDRESS for one in questions)
        yield Entry("none", "a hash or a row needs no salt" if needless else "no salt was given")
    for key_id in keys.not_asked:
        yield Entry(
            key_id, f"not asked: its salt is not given (--salt-file {escaping.word(f'{key_id}=FILE')})"
        )
