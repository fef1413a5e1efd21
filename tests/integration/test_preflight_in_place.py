"""Preflight of jobs that rewrite values in place: each finding in a table that has it, and none in a plain one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from psycopg2 import sql
from sqlalchemy import Connection, make_url, text

from backfill.database.connection import execute, make_engine
from backfill.database.preflight import checks
from backfill.database.preflight.checks import Report
from backfill.database.preflight.target import Purpose
from backfill.plan import Plan
from tests.databases import Databases

IP = "alter table logins alter ip type {} using ip::{};"
KEEP = {"unreadable": "keep"}
HASH = {"becomes": "hash", **KEEP}
NETWORK = {"becomes": "network", **KEEP}
ID, BOTH = {"key": "id"}, {"key": ["id", "who"]}
NO_KEY = "alter table logins drop constraint logins_pkey;"
PAIR = NO_KEY + "alter table logins add primary key (id, who);"
REFUSE = {"on_duplicate": "refuse"}
NEWEST = {"on_duplicate": "keep-newest", "time": "at"}
GEO = {"geo": "place"}
KEYED = {"geo": {"country_code": "land", "city": "who"}}
LAND = "create type e as enum ('DE'); create table lands (land text primary key); alter table logins add land {};"
PLACE = "alter table logins add place jsonb;"
NOTHING = {"becomes": "nothing", "then": "keep", **KEEP}
TRIGGER = "create function f() returns trigger language plpgsql set search_path = '' as $$ begin return new; end $$; create trigger t {} on logins {} execute function f()"
FINE = "create function fine(text) returns boolean language sql immutable as 'select true';"


@dataclass(frozen=True)
class Situation:
    """A change of the table, the job's keys, and what preflight has to say of it."""

    name: str
    change: str
    codes: tuple[str, ...]
    job: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""
    says: str = ""
    purpose: Purpose = Purpose.PLAN
    version: int = 140_000


def typed(name: str) -> str:
    return IP.format(name, name)


SITUATIONS = [
    Situation("a plain table", "select", ()),
    Situation("a plain table, before a run", "select", (), HASH, purpose=Purpose.WRITE),
    *(
        Situation(f"{kind['becomes']} in {name}", typed(name), (), kind)
        for name in ("varchar(64)", "char(64)", "citext", "inet")
        for kind in (HASH, NETWORK, {"becomes": "pseudonym", **KEEP}, NOTHING)
        if (name, kind) != ("inet", HASH)
    ),
    Situation("a domain over varchar", "create domain d as varchar(64);" + typed("d"), (), HASH),
    Situation("a domain over a domain that is too short", "create domain d as varchar(63); create domain e as d;" + typed("e"), ("raw-too-short",), HASH),
    Situation("a hash as inet", typed("inet"), ("raw-type",), HASH, "public.logins.ip", "a hash is no address"),
    Situation("a domain over inet", "create domain d as inet;" + typed("d"), ()),
    Situation("a hash in one", "create domain d as inet;" + typed("d"), ("raw-type",), HASH, "public.logins.ip", "a hash is no address"),
    Situation("one whose CHECK refuses the results", "create domain d as inet check (family(value) = 4); create domain e as d;" + typed("e"), ("refuses-results",), subject="public.logins.ip", says="domain public.e"),
    Situation("one whose CHECK takes them", "create domain d as inet check (masklen(value) = 24 or family(value) in (4, 6));" + typed("d"), (), NETWORK),
    Situation("one that is NOT NULL", "create domain d as inet not null;" + typed("d"), ("raw-not-null",), NOTHING),
    Situation("one that takes no such constant", "create domain d as inet check (value <> '192.0.2.1');" + typed("d"), ("refuses-results",), {**NOTHING, "constant": "192.0.2.1"}, says="the constant of the plan"),
    Situation("cidr", typed("cidr"), ("raw-type",), says="holds networks"),
    Situation("an enum", "create type e as enum ('192.0.2.1');" + typed("e"), ("raw-type",), says="fixed list"),
    Situation("an array", "alter table logins alter ip type text[] using array[ip]", ("raw-type",), says="arrays"),
    Situation("jsonb", "alter table logins alter ip type jsonb using null", ("raw-type",), says="JSON"),
    Situation("bytea", typed("bytea"), ("raw-type",), NOTHING, says='becomes = "nothing"'),
    Situation("macaddr", "alter table logins alter ip type macaddr using null", ("raw-type",)),
    Situation("a composite type", "create type c as (a text); alter table logins alter ip type c using null", ("raw-type",)),
    Situation("no column", "alter table logins drop ip", ("no-column",)),
    Situation("varchar(38)", typed("varchar(38)"), ("raw-too-short",), subject="public.logins.ip", says="up to 39 characters"),
    Situation("char(63) for a hash", typed("char(63)"), ("raw-too-short",), HASH, says="up to 64 characters"),
    Situation("varchar(15) for networks", typed("varchar(15)"), ("raw-too-short",), NETWORK, says="up to 16 characters"),
    Situation("wider networks in it", typed("varchar(15)"), (), {**NETWORK, "widths": {"v4": 16, "v6": 32}}),
    Situation("narrow networks", typed("varchar(38)"), ("raw-too-short",), {**NETWORK, "widths": {"v6": 127}}),
    Situation("a long constant", typed("varchar(15)"), ("raw-too-short",), {**NOTHING, "constant": "no longer stored"}),
    Situation("NOT NULL", "alter table logins alter ip set not null", (), HASH),
    Situation("NOT NULL becomes nothing", "alter table logins alter ip set not null", ("raw-not-null",), NOTHING, says="becomes ="),
    Situation("NOT NULL becomes a constant", "alter table logins alter ip set not null", (), {**NOTHING, "constant": "-"}),
    Situation("NOT NULL, unreadable texts become nothing", "alter table logins alter ip set not null", ("raw-not-null",), {"unreadable": "nothing"}, says="unreadable ="),
    Situation("a domain that is NOT NULL", "create domain d as text not null;" + typed("d"), ("raw-not-null",), NOTHING),
    Situation("a constant that is no address", typed("inet"), ("constant-refused",), {**NOTHING, "constant": "none"}, "public.logins.ip"),
    *(Situation(f"a constant that {type_} spells otherwise: {given!r}", typed(type_), ("constant-refused",), {**NOTHING, "constant": given}, "public.logins.ip", f'constant = "{held}"')
      for type_, given, held in (("inet", "2001:DB8::1", "2001:db8::1"), ("inet", "192.0.2.1/32", "192.0.2.1"), ("char(45)", "- ", "-"), ("char(45)", " ", ""))),
    Situation("a constant in a domain that spells it otherwise", "create domain d as inet; create domain e as d;" + typed("e"), ("constant-refused",), {"unreadable": "nothing", "constant": "::0"}, says='constant = "::"'),
    *(Situation(f"a constant that {type_} keeps: {given!r}", typed(type_), (), {**NOTHING, "constant": given}) for type_, given in (("text", "- "), ("citext", "UNKNOWN"), ("char(45)", "2001:DB8::1"), ("inet", "10.0.0.0/8"))),
    Situation("one that is", typed("inet"), (), {**NOTHING, "constant": "::"}),
    Situation("generated", "alter table logins drop ip; alter table logins add ip text generated always as (who) stored", ("generated-column",)),
    Situation("a generated column", "alter table logins add short text generated always as (left(ip, 4)) stored", ("generated-from-raw",), subject="public.logins.short"),
    Situation("one that fails", "alter table logins add a inet generated always as (ip::inet) stored", ("refuses-results",), HASH, "public.logins.a"),
    Situation("one of another column", "alter table logins add short text generated always as (left(who, 4)) stored", ()),
    Situation("a CHECK that holds", "alter table logins add constraint c check (ip <> '' and length(ip) < 65)", ()),
    Situation("a CHECK on the form", r"alter table logins add constraint c check (ip ~ '^[0-9.]+$')", ("refuses-results",), {}, "public.logins.c", "refuses a pseudonym"),
    Situation("networks of what it lets in", r"alter table logins add constraint c check (ip ~ '^[0-9.]+$')", (), NETWORK),
    Situation("a CHECK that fails", "alter table logins add constraint c check (ip::inet is not null)", ("refuses-results",), HASH),
    Situation("a CHECK for a value", "alter table logins add constraint c check (ip is not null)", ("refuses-results",), NOTHING, says="refuses NULL"),
    Situation("a CHECK on unreadable texts", "alter table logins add constraint c check (ip <> '-')", ("refuses-results",), {"unreadable": "nothing", "constant": "-"}, says="the constant of the plan"),
    Situation("a CHECK on the family", typed("inet") + "alter table logins add constraint c check (family(ip) = 4)", ("refuses-results",)),
    Situation("a CHECK that calls a function", FINE + "alter table logins add constraint c check (fine(ip))", ("check-on-written-column",), HASH, "public.logins.c"),
    Situation("a CHECK of two columns", "alter table logins add constraint c check (who <> ip)", ("check-on-written-column",)),
    Situation("one that rows would break", "insert into logins values (1, 'v4', '192.0.2.1'); alter table logins add constraint c check (who <> 'v4' or ip ~ '^[0-9.]+$')", ("refuses-results",)),
    Situation("a CHECK of the whole row", "alter table logins add constraint c check (length(logins.*::text) < 99)", ("check-on-written-column",)),
    Situation("a CHECK of another column", "alter table logins add constraint c check (who <> '')", ()),
    Situation("a CHECK that is not enforced", "alter table logins add constraint c check (ip = '') not enforced", ("constraint-not-enforced",), version=180_000),
    Situation("a domain's CHECK", r"create domain d as text check (value ~ '^[0-9a-f.:]+$');" + typed("d"), (), HASH),
    Situation("one that refuses", r"create domain d as text check (value ~ '[.:]');" + typed("d"), ("refuses-results",), HASH, "public.logins.ip", "domain public.d"),
    Situation("one below another domain", r"create domain d as text check (value ~ '[.:]'); create domain e as d;" + typed("e"), ("refuses-results",), HASH),
    Situation("one that calls a function", FINE + "create domain d as text check (fine(value));" + typed("d"), ("domain-check",)),
    Situation("an index", "create index i on logins (ip)", ("raw-in-index",), subject="public.logins.ip", says="in index i"),
    Situation("an index that includes it", "create index i on logins (who) include (ip)", ("raw-in-index",)),
    Situation("a unique index that includes it", "create unique index i on logins (who) include (ip)", ()),
    Situation("an index over an expression", "create index i on logins (lower(ip))", ("raw-in-index",)),
    Situation("one that fails", "create index i on logins ((ip::inet))", ("raw-in-index", "refuses-results"), HASH, "public.logins.i"),
    Situation("one that fails where it holds", "insert into logins values (1, 'x', '192.0.2.1'); create index i on logins (who) where ip::inet <<= '10/8'", ("raw-in-index", "refuses-results"), HASH),
    Situation("one that fails where it does not hold", "insert into logins values (1, '', '192.0.2.1'), (2, 'x', '192.0.2.2'); create index i on logins (ip, (1 / length(who))) where who <> ''", ("raw-in-index",), HASH),
    Situation("one that calls a function", FINE + "create index i on logins (fine(ip))", ("raw-in-index", "index-computed-from-raw")),
    Situation("a unique constraint", "alter table logins add constraint u unique (who, ip)", ("raw-in-unique-key",), HASH, "public.logins.u", "Unique index u"),
    Situation("a unique index", "create unique index u on logins (ip)", ("raw-in-unique-key",), NETWORK),
    Situation("a partial one", "create unique index u on logins (who) where ip is not null", ("raw-in-unique-key",), NOTHING),
    Situation("one over an expression", "create unique index u on logins (who, lower(ip))", ("raw-in-unique-key",)),
    Situation("one over the whole row", "create unique index u on logins (hash_record(logins.*))", ("raw-in-unique-key",)),
    Situation("one over a generated column", "alter table logins add g text generated always as (lower(ip)) stored; create unique index u on logins (g)", ("generated-from-raw", "raw-in-unique-key")),
    Situation("a primary key", "alter table logins drop constraint logins_pkey, add primary key (id, ip), add unique (id)", ("raw-in-unique-key",), says="Primary key logins_pkey"),
    Situation("an exclusion constraint", "alter table logins add constraint x exclude using btree (who with =, ip with =)", ("raw-in-unique-key",), says="Exclusion constraint x"),
    Situation("one with it in its predicate", "alter table logins add constraint x exclude using btree (who with =) where (ip is not null)", ("raw-in-unique-key",)),
    *(Situation(f"{name}, and what becomes of equal rows", change, codes, job) for name, change, codes, job in (
        ("a unique index", "create unique index u on logins (ip)", ("duplicates-decided",), REFUSE),
        ("several", "create unique index u on logins (who, ip); create unique index v on logins (lower(ip)) where who <> ''", ("duplicates-decided", "duplicates-decided"), REFUSE),
        ("several of which one decides", "create unique index u on logins (who, ip); create unique index v on logins (lower(who), ip, who)", ("duplicates-decided", "duplicates-decided"), NEWEST),
        ("several of which none does", "create unique index u on logins (who, ip); create unique index v on logins (lower(ip))", ("raw-in-unique-key", "duplicates-decided", "duplicates-decided"), NEWEST),
        ("a partial one, one that decides", "create unique index u on logins (who, ip) where who <> ''; create unique index v on logins (ip)", ("duplicates-decided", "duplicates-decided"), NEWEST),
        ("a primary key", "alter table logins drop constraint logins_pkey, add primary key (id, ip), add unique (id)", ("duplicates-decided",), REFUSE),
        ("an exclusion constraint", "alter table logins add constraint x exclude using btree (who with =, ip with =)", ("raw-in-unique-key",), REFUSE),
        ("one over the whole row", "create unique index u on logins (hash_record(logins.*))", ("raw-in-unique-key",), REFUSE),
        ("one that fails", "create unique index u on logins ((ip::inet))", ("refuses-results", "duplicates-decided"), {**HASH, **REFUSE}),
        ("no unique index", "select", ("on-duplicate-unused",), NEWEST),
        ("a foreign key to the table", "create unique index u on logins (ip); create table others (id int references logins)", ("duplicates-referred-to", "duplicates-decided"), NEWEST),
        ("the same, where nothing is deleted", "create unique index u on logins (ip); create table others (id int references logins)", ("duplicates-decided",), REFUSE),
        ("a DELETE trigger", "create unique index u on logins (ip);" + TRIGGER.format("before delete", "for each row"), ("delete-trigger", "duplicates-decided"), NEWEST),
        ("a DELETE trigger where nothing is deleted", "create unique index u on logins (ip);" + TRIGGER.format("before delete", "for each row"), ("duplicates-decided",), REFUSE),
        ("one for both", "create unique index u on logins (ip);" + TRIGGER.format("after delete or update", "for each row"), ("raw-in-unique-key", "after-trigger", "delete-trigger", "duplicates-decided"), NEWEST),
        ("a trigger that may set the time", "create unique index u on logins (ip);" + TRIGGER.format("before update", "for each row"), ("raw-in-unique-key", "before-trigger", "duplicates-decided"), NEWEST),
        ("one that does not fire", "create unique index u on logins (ip);" + TRIGGER.format("before update of who", "for each row"), ("duplicates-decided",), NEWEST),
        ("a DELETE rule", "create unique index u on logins (ip); create rule r as on delete to logins do instead nothing", ("rule", "duplicates-decided"), NEWEST),
    )),
    Situation("NULLs that are equal, beside one where they are not, and what becomes of equal rows", "create unique index u on logins (ip); create unique index v on logins (ip, who) nulls not distinct", ("raw-in-unique-key", "duplicates-decided", "duplicates-decided"), NEWEST, version=150_000),
    Situation("a unique index of other columns", "create unique index u on logins (who)", ()),
    Situation("a foreign key to it", "alter table logins add constraint u unique (ip); create table others (ip text references logins (ip))", ("raw-in-foreign-key", "raw-in-unique-key"), says="others_ip_fkey of"),
    Situation("a foreign key from it", "create table others (ip text primary key); alter table logins add constraint f foreign key (ip) references others", ("raw-in-foreign-key",), {}, "public.logins.f"),
    Situation("a foreign key of other columns", "create table others (id int primary key); alter table logins add foreign key (id) references others", ()),
    Situation("a view, and a view of it", "create view v as select ip from logins; create view w as select ip from v", ("view-of-raw", "view-of-raw"), subject="public.logins.public.v"),
    Situation("a view of other columns", "create view v as select who from logins", ()),
    Situation("a materialized view of a view", "create view v as select ip from logins; create materialized view m as select ip from v", ("materialized-view-of-raw", "view-of-raw"), subject="public.logins.public.m"),
    Situation("a policy", "create policy p on logins using (ip = '192.0.2.1')", ("policy-on-raw",), subject="public.logins.p"),
    Situation("statistics", "create statistics s on who, ip from logins", ("statistics-of-raw",)),
    Situation("a default", "alter table logins alter ip set default '-'", ()),
    Situation("a sequence of its own", "create sequence s owned by logins.ip", ()),
    Situation("a function that reads it", "create function g() returns text begin atomic select max(ip) from logins; end", ()),
    Situation("a typed table", "create type c as (id int, who text, ip text); drop table logins; create table logins of c (primary key (id))", ()),
    Situation("a BEFORE trigger", TRIGGER.format("before update", "for each row"), ("before-trigger",), says="raw address and all"),
    Situation("an AFTER trigger", TRIGGER.format("after update", "for each row"), ("after-trigger",), says="raw address and all"),
    Situation("a statement trigger with a transition table", TRIGGER.format("after update", "referencing old table as o for each statement"), ("after-trigger",), says="raw address and all"),
    Situation("UPDATE OF the column", TRIGGER.format("after update of ip", "for each row"), ("after-trigger",)),
    Situation("UPDATE OF another column", TRIGGER.format("after update of who", "for each row"), ()),
    Situation("a rule", "create rule r as on update to logins do also insert into logins select old.*", ("rule",)),
    Situation("published", "create publication p for table logins", ("published",)),
    Situation("the old row published", "create publication p for table logins; alter table logins replica identity full", ("old-row-published",)),
    Situation("an identity with the raw column", "alter table logins alter ip set not null; create unique index i on logins (who, ip); alter table logins alter who set not null; alter table logins replica identity using index i; create publication p for all tables", ("old-row-published", "raw-in-unique-key")),
    Situation("a key that is not unique", NO_KEY, ("not-unique",), ID, says="none (key = [])"),
    Situation("a key that may be NULL", NO_KEY + "alter table logins alter id drop not null, add unique (id)", ("key-without-not-null",), ID),
    Situation("a key that is deferrable", NO_KEY + "alter table logins add primary key (id) deferrable initially deferred", (), ID),
    Situation("a key that is partial", NO_KEY + "create unique index i on logins (id) where who <> ''", ("not-unique",), ID, says="i is partial"),
    Situation("a key that is invalid", NO_KEY + "create unique index i on logins (id); update pg_index set indisvalid = false where indexrelid = 'i'::regclass", ("not-unique",), ID, says="i is invalid"),
    Situation("several columns", PAIR, (), BOTH),
    Situation("several columns, one of which is unique", "alter table logins alter who set not null", (), BOTH),
    Situation("several columns that are not unique", "alter table logins alter who set not null;" + NO_KEY, ("not-unique",), BOTH, "public.logins.id,who", "Columns id and who of logins are not unique"),
    Situation("several columns with NULLs", NO_KEY + "alter table logins add unique (id, who)", ("key-without-not-null",), BOTH, "public.logins.who"),
    Situation("several columns with NULLs from before", NO_KEY + "alter table logins add unique (id, who); insert into logins values (1, null); alter table logins add constraint w not null who not valid", ("check-violated", "key-without-not-null"), BOTH, "public.logins.who", "never validated", version=180_000),
    Situation("a NOT NULL of another column that is not valid", "insert into logins values (1, null); alter table logins add constraint w not null who not valid", ("check-violated",), says="NOT NULL w of logins is not valid, and 1 row has NULL in who", version=180_000),
    Situation("one that could be", "insert into logins values (1, ''); alter table logins add constraint w not null who not valid", (), version=180_000),
    Situation("several columns, one of which is not there", PAIR, ("no-column",), {"key": ["id", "gone"]}, "public.logins.gone"),
    Situation("several columns, one of which holds addresses", NO_KEY + "alter table logins add peer inet, add primary key (id, peer)", ("address-in-key",), {"key": ["id", "peer"]}, "public.logins.peer"),
    Situation("a key made of the raw column", "alter table logins add h text generated always as (md5(ip)) stored unique; alter table logins alter h set not null", ("address-in-key", "generated-from-raw", "raw-in-unique-key"), {"key": "h"}, "public.logins.h", "generated from the raw address"),
    *(Situation(f"a key that is {name}", NO_KEY + f"alter table logins add peer {type_} primary key; insert into logins (id, peer) values (1, '{text}'), (2, '{other}')", ("addresses-among-keys", "row-key") if chosen else ("addresses-among-keys",), {} if chosen else {"key": "peer"}, "public.logins.peer", "1 key holds what looks like an address. It would", purpose=Purpose.PLAN)
      for name, type_, text, other in (
          ("an address as text", "text", "192.0.2.9", "192.0.2"),
          ("one with a name", 'citext', "ann@2001:db8::7", "::"),
          ("one in JSON", "jsonb", '{"ip": "2001:db8:0:0:0:0:0:1"}', '{"at": "10:11:12"}'),
          ("in a list of addresses", "inet[]", "{192.0.2.1}", "{}"),
          ("what ends with zeros", "varchar(20)", "2001:db8::", "Acme::Client, 1.2.3"),
      ) for chosen in (True, False)),
    Situation("a key of several columns, one of which is a text with an address", NO_KEY + "alter table logins alter who set not null, add primary key (id, who); insert into logins values (1, '8.8.8.8:80')", ("addresses-among-keys",), BOTH, "public.logins.who"),
    Situation("a key of hashes", NO_KEY + "update logins set who = ''; alter table logins alter who set not null, add primary key (who); insert into logins values (1, md5('a')), (2, gen_random_uuid()), (3, 'v1.2.3.4.5'), (4, '08:00:2b:01:02:03:04:05:06')", (), {"key": "who"}),
    *(Situation(f"a key that is {type_}", f"create domain d as inet; create domain e as d; alter table logins add peer {type_} not null unique", ("address-in-key",), {"key": "peer"}, "public.logins.peer", f"is {shown}") for type_, shown in (("inet", "inet"), ("d", "public.d"), ("e", "public.e"))),
    Situation("no key but a domain over a domain over inet", NO_KEY + "create domain d as inet; create domain e as d; alter table logins add peer e primary key", ("no-row-key",)),
    Situation("the catalog's key", PAIR, ("row-key",), says="named by id and who"),
    Situation("the catalog's other key", NO_KEY + "alter table logins alter who set not null; create unique index i on logins (who)", ("row-key",), says="named by who"),
    Situation("no key", NO_KEY, ("no-row-key",)),
    Situation("no key, as the plan says", "select", ("no-row-key",), {"key": []}, says="The plan says so"),
    Situation("no key but of addresses", NO_KEY + "alter table logins add peer inet, add primary key (id, peer)", ("no-row-key",)),
    Situation("no key but one of an expression", NO_KEY + "create unique index i on logins (lower(who))", ("no-row-key",)),
    Situation("a place", PLACE, (), GEO),
    Situation("a place that is NOT NULL", "alter table logins add place jsonb not null default '{}'", (), GEO),
    Situation("a place that is not there", "select", ("no-column",), GEO, "public.logins.place"),
    *(
        Situation(f"a place as {name}", f"create domain d as json; alter table logins add place {name}", ("column-type",), GEO, "public.logins.place", "It has to be jsonb.")
        for name in ("json", "text", "jsonb[]", "d")
    ),
    Situation("a place as a domain", "create domain d as jsonb; alter table logins add place d", (), GEO),
    Situation("a place as a domain with a CHECK", "create domain d as jsonb check (value ? 'city'); alter table logins add place d", ("domain-check",), GEO, "public.logins.place"),
    Situation("a place that is generated", "alter table logins add place jsonb generated always as ('{}'::jsonb) stored", ("generated-column",), GEO, "public.logins.place"),
    Situation("a place in a unique constraint", PLACE + "alter table logins add constraint u unique (who, place)", ("geo-in-unique-key",), GEO, "public.logins.u"),
    Situation("a place in a unique expression", PLACE + "create unique index u on logins ((place ->> 'city'))", ("geo-in-unique-key",), GEO, "public.logins.u"),
    Situation("a place in a unique predicate", PLACE + "create unique index u on logins (who) where place is null", ("geo-in-unique-key",), GEO, "public.logins.u"),
    Situation("a place beside a unique key", PLACE + "create unique index u on logins (id) include (place)", ("geo-in-index",), GEO),
    Situation("a place beside a unique key, and in its predicate", PLACE + "create unique index u on logins (id) include (place) where place is null", ("geo-in-unique-key",), GEO),
    Situation("a place in an index", PLACE + "create index i on logins using gin (place)", ("geo-in-index",), GEO),
    Situation("a place in an index of an expression", PLACE + "create index i on logins (((place ->> 'latitude')::float))", ("computed-from-geo",), GEO, "public.logins.i"),
    Situation("a place in a generated column", PLACE + "alter table logins add c text generated always as (place ->> 'city') stored", ("computed-from-geo",), GEO, "public.logins.c"),
    Situation("a place in a CHECK", PLACE + "alter table logins add constraint c check (place ? 'city')", ("check-on-written-column",), GEO, "public.logins.c"),
    Situation("a place in a CHECK with the address", PLACE + "alter table logins add constraint c check (ip is null or place is null)", ("check-on-written-column", "check-on-written-column"), GEO, "public.logins.c"),
    Situation("UPDATE OF the place", PLACE + TRIGGER.format("after update of place", "for each row"), ("after-trigger",), GEO),
    *(
        Situation(f"a place by key, {name}", "create domain d as varchar(2);" + LAND.format(type_), codes, KEYED, subject, says)
        for name, type_, codes, subject, says in (
            ("text", "text", (), "", ""),
            ("NOT NULL", "citext not null default ''", (), "", ""),
            ("a domain", "d", (), "", ""),
            ("char", "char", ("geo-too-short",), "public.logins.land", "a country_code has 2 characters"),
            ("a short domain", "varchar(1)", ("geo-too-short",), "public.logins.land", ""),
            ("jsonb", "jsonb", ("column-type",), "public.logins.land", "It has to be"),
            ("an enum", "e", ("column-type",), "public.logins.land", ""),
            ("unique", "text unique", ("geo-in-unique-key",), "", ""),
            ("checked", "text check (land <> '')", ("check-on-written-column",), "", ""),
            ("referring", "text references lands", ("geo-in-foreign-key",), "public.logins.logins_land_fkey", "ties logins to"),
        )
    ),
    Situation("a place by key, one column of which is not there", "select", ("no-column",), KEYED, "public.logins.land"),
    Situation("a place without a plan for it", PLACE + "alter table logins add unique (place)", ()),
    Situation("another place's keys", PLACE + "insert into logins values (1, '', '192.0.2.1', now(), '{\"code\": \"DE\"}')", ("other-geo-keys",), GEO, "public.logins", "'code'"),
    Situation("partitioned", "drop table logins; create table logins (id int, ip text) partition by hash (id)", ("not-a-plain-table",)),
    Situation("children", "create table child () inherits (logins)", ("inheritance",)),
]  # fmt: skip


def run(connection: Connection, statements: str) -> None:
    execute(connection, sql.SQL(statements)).close()


@pytest.fixture(scope="module")
def connection(databases: Databases) -> Iterator[Connection]:
    """A session on a database with one table, of which every test takes back what it changed."""
    url = databases.create()
    engine = make_engine(make_url(url), ledger_schema="backfill")
    with engine.connect() as connection:
        run(
            connection,
            "create extension citext schema public; create table public.logins (id int primary key, who text, ip text, at timestamptz)",
        )
        connection.commit()
        connection.execute(text("select 1"))
        yield connection
        connection.rollback()
    engine.dispose()
    databases.drop(url)


def inspect(connection: Connection, situation: Situation) -> Report:
    number = connection.connection.driver_connection.server_version
    if number < situation.version:
        pytest.skip(f"the server is {number}")
    run(connection, "set local search_path = public")
    run(connection, situation.change)
    run(connection, "set local search_path = pg_catalog, pg_temp")  # as our sessions have it
    job = {"table": "logins", "raw": "ip", "becomes": "pseudonym", **KEEP, **situation.job}
    plan = Plan.model_validate({"name": "logins", "jobs": [job]})
    return checks.inspect(connection, plan, plan.parts, "backfill", situation.purpose)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)
def test_a_situation_is_found_and_nothing_else(connection: Connection, situation: Situation) -> None:
    try:
        report = inspect(connection, situation)
        found = [*report.blocking, *report.unaccepted, *report.notes]
        assert sorted(one.code for one in found) == sorted(situation.codes), found
        assert not situation.subject or situation.subject in [one.subject for one in found], found
        assert not situation.says or any(situation.says in one.text for one in found), found
        assert all(one.problem.endswith((".", ";", ")")) and "  " not in one.text for one in found), found
    finally:
        connection.rollback()
