"""Preflight: each finding in a database that has it, and none in the demo's."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from psycopg2 import sql
from sqlalchemy import Connection, make_url, text

from backfill.cli import preflight
from backfill.cli.context import Session
from backfill.database.connection import execute, make_engine, value
from backfill.database.preflight import checks
from backfill.database.preflight.checks import Report
from backfill.database.preflight.finding import Severity
from backfill.database.preflight.target import Purpose
from backfill.errors import SchemaUnfit
from backfill.plan import PYPI, Geo, GeoKey, LinkJob, Plan
from backfill.settings import Settings
from tests.databases import Databases, query
from tests.demo_template import fill_demo
from tests.operator import Operator

ROLE = "preflight_role"  # made and undone in the situation's own transaction
GRANTS = f"""
    create role {ROLE};
    grant select, update on user_events, project_events, file_events, organization_events, team_events to {ROLE};
    grant select, insert, update on ip_addresses to {ROLE}; grant select on journals to {ROLE};
"""
FUNCTION = "create function touch() returns trigger language plpgsql as $$ begin return new; end $$;"


@dataclass(frozen=True)
class Situation:
    """A change of the demo's schema, and what preflight has to say of it."""

    name: str
    change: str
    codes: tuple[str, ...]  # all that is new
    subject: str = ""
    says: str = ""
    purpose: Purpose = Purpose.PLAN
    role: bool = False  # asked as an ordinary role with the grants of docs/preflight.md
    plan: Plan = field(default=PYPI)
    version: int = 140_000
    before: int = 990_000


def with_job(**keys: str) -> Plan:
    """The built-in plan with other columns of ``user_events``."""
    jobs = (PYPI.jobs[0].model_copy(update=keys), *PYPI.jobs[1:])
    return PYPI.model_copy(update={"jobs": jobs})


E = "user_events"
TWO = (
    "delete from user_events; create unique index once on user_events (source_id, tag, ip_address_id);"
    " insert into user_events (source_id, tag, ip_address_string, ip_address_id)"
    " with one as (select id as source from users limit 1) select source, tag, text, link::uuid from ("
    " select source, 'x', {} from one) as two (source, tag, text, link)"
)
SITUATIONS = [
    Situation("a table that is not there", f"drop table {E}", ("no-table",), "public.user_events"),
    Situation("a view", f"alter table {E} rename to real; create view {E} as select * from real", ("not-a-plain-table",), says="a view"),
    Situation("a foreign table", f"create foreign data wrapper w; create server s foreign data wrapper w; drop table {E}; create foreign table {E} (id uuid) server s", ("not-a-plain-table",), says="a foreign table"),
    Situation("a partitioned table", f"drop table {E}; create table {E} (id uuid, ip_address_string text) partition by hash (id)", ("not-a-plain-table",), says="a partitioned table"),
    Situation("a partition", f"alter table {E} rename to whole; drop table whole; create table whole (id uuid) partition by hash (id); create table {E} partition of whole for values with (modulus 1, remainder 0)", ("not-a-plain-table",), says="a partition"),
    Situation("a partition of the discard's table", "drop table journals; create table whole (id int, submitted_date timestamp) partition by hash (id); create table journals partition of whole for values with (modulus 1, remainder 0)", ("not-a-plain-table",), "public.journals"),
    Situation("a geo key that no live row carries", "select", ("new-geo-key", "new-geo-key"), "latitude", "user_events (all rows)", plan=PYPI.model_copy(update={"geo": Geo(keys=tuple(GeoKey))})),
    Situation("geo keys that live rows carry and the plan does not write", """update ip_addresses set geoip_info = geoip_info || '{"zip": 1}' where geoip_info is not null""", ("other-geo-keys",), says="'zip'"),
    Situation("children", f"create table child () inherits ({E})", ("inheritance",), "public.user_events", "neither written nor counted"),
    Situation("children of the address table", "create table child () inherits (ip_addresses)", ("inheritance",), "public.ip_addresses"),
    Situation("children, asked by verify", f"create table child () inherits ({E})", ("inheritance",), purpose=Purpose.READ),
    Situation("a parent", f"create table parent (tag varchar not null); alter table {E} inherit parent", ("inheritance",), says="inherits from another"),
    Situation("FORCE for the owner", f"alter table {E} enable row level security, force row level security; alter table {E} owner to {ROLE}", ("row-security",), "public.user_events", role=True),
    Situation("ENABLE for another role", f"alter table {E} enable row level security", ("row-security",), role=True),
    Situation("row security, asked by verify", "alter table journals enable row level security", ("row-security",), "public.journals", purpose=Purpose.READ, role=True),
    Situation("row security of the address table", "alter table ip_addresses enable row level security", ("row-security",), "public.ip_addresses", role=True),
    Situation("row security of a table that refers to addresses", f"create table logins (a uuid references ip_addresses); alter table logins enable row level security; grant select, update on logins to {ROLE}", ("row-security",), "public.logins", role=True),
    Situation("row security with BYPASSRLS", f"alter table {E} enable row level security; alter role {ROLE} bypassrls", (), role=True),
    Situation("a superuser passes by row security", f"alter table {E} enable row level security, force row level security", ()),
    Situation("a typed table", f"create type shape as (id uuid, tag varchar, time timestamp, ip_address_string varchar, additional jsonb, ip_address_id uuid); drop table {E}; create table {E} of shape (primary key (id)); alter table {E} add foreign key (ip_address_id) references ip_addresses", ("typed-table",)),
    Situation("unlogged", f"alter table {E} set unlogged", ("unlogged-table",)),
    Situation("no column", f"alter table {E} drop column additional", ("no-column",), "public.user_events.additional"),
    Situation("verify after the drop", f"alter table {E} drop column ip_address_string; alter table ip_addresses drop column ip_address", (), purpose=Purpose.READ, plan=PYPI.model_copy(update={"jobs": tuple(job for job in PYPI.jobs if job.table == E)})),
    Situation("verify without the address, while a text is there", "alter table ip_addresses rename column ip_address to renamed", ("no-column",), "public.ip_addresses.ip_address", purpose=Purpose.READ),
    Situation("verify without a link", f"alter table {E} drop column ip_address_id", ("no-column",), purpose=Purpose.READ),
    Situation("a discard without its column", "alter table journals drop column submitted_from", ("no-column",), "public.journals.submitted_from", "(to be discarded)"),
    Situation("a discard without its column, asked by verify", "alter table journals drop column submitted_from", (), purpose=Purpose.READ),
    Situation("a default of the raw column", f"alter table {E} alter ip_address_string set default host(inet_client_addr())", ("default-of-raw",), "public.user_events.ip_address_string", "still fills it"),
    Situation("a default of a discard", "alter table journals alter submitted_from set default '192.0.2.1'", ("default-of-raw",), "public.journals.submitted_from"),
    Situation("a default of its domain", f"create domain seen as varchar default '-'; alter table {E} alter ip_address_string type seen", ("default-of-raw",)),
    Situation("a default that is NULL", f"alter table {E} alter ip_address_string set default null, alter tag set default 'x'", ()),
    Situation("a default, asked by a run", f"alter table {E} alter ip_address_string set default '-'", (), purpose=Purpose.WRITE),
    Situation("a number as raw text", f"alter table {E} alter ip_address_string type bigint using 1", ("column-type",), "public.user_events.ip_address_string"),
    Situation("networks as raw values", f"alter table {E} alter ip_address_string type cidr using null", ("column-type",), "public.user_events.ip_address_string", "A cidr holds networks"),
    Situation("json instead of jsonb", f"alter table {E} alter additional type json", ("column-type",), "public.user_events.additional"),
    Situation("a domain over text", f"create domain place as varchar; alter table {E} alter ip_address_string type place", ()),
    Situation("time as a uuid", f"alter table {E} alter time drop default; alter table {E} alter time type uuid using id", ("time-type",), "public.user_events.time"),
    Situation("time as JSON, of a discard", "alter table journals drop column submitted_date; alter table journals add submitted_date json", ("time-type",), "public.journals.submitted_date", purpose=Purpose.READ),
    Situation("time as a day", f"alter table {E} alter time type date", ()),
    Situation("time with a zone", f"alter table {E} alter time type timestamptz", ()),
    Situation("a link of another type", f"alter table {E} drop constraint user_events_ip_address_id_fkey; alter table {E} alter ip_address_id type text", ("link-type", "no-foreign-key")),
    Situation("a hash column that is too short", "alter table ip_addresses alter hashed_ip_address type varchar(40) using left(hashed_ip_address, 40)", ("hash-too-short",)),
    Situation("a domain that is too short", "create domain digest as varchar(40); alter table ip_addresses alter hashed_ip_address type digest using left(hashed_ip_address, 40)", ("hash-too-short",)),
    Situation("a generated link", f"alter table {E} drop column ip_address_id; alter table {E} add ip_address_id uuid generated always as (source_id) stored", ("generated-column", "no-foreign-key")),
    Situation("a generated raw column", f"alter table {E} drop column ip_address_string; alter table {E} add ip_address_string text generated always as (tag) stored", ("generated-column",), "public.user_events.ip_address_string", "keeps every address"),
    Situation("geo that is NOT NULL", "update ip_addresses set geoip_info = '{}' where geoip_info is null; alter table ip_addresses alter geoip_info set default '{}', alter geoip_info set not null", ("required-column",), "public.ip_addresses.geoip_info"),
    Situation("a virtual column as extra", f"alter table {E} drop column additional; alter table {E} add additional jsonb generated always as (null) virtual", ("generated-column",), version=180_000),
    Situation("another NOT NULL column of the address table", "alter table ip_addresses add seen timestamp not null default now(); alter table ip_addresses alter seen drop default", ("required-column",), "public.ip_addresses.seen"),
    Situation("a domain that is NOT NULL", "create domain sure as int not null; alter table ip_addresses add seen sure default 1; alter table ip_addresses alter seen drop default", ("required-column",)),
    Situation("a NOT NULL column that is generated", "alter table ip_addresses add seen int generated always as (1) stored not null, add n int generated always as identity", ()),
    Situation("a key without default", "alter table ip_addresses alter id drop default", ("key-without-default",), "public.ip_addresses.id"),
    Situation("a domain with a CHECK", f"create domain doc as jsonb check (jsonb_typeof(value) = 'object'); alter table {E} alter additional type doc using null", ("domain-check",)),
    Situation("no unique index", "alter table ip_addresses drop constraint ip_addresses_hashed_ip_address_key", ("not-unique",)),
    Situation("a deferrable one", "alter table ip_addresses drop constraint ip_addresses_hashed_ip_address_key, add unique (hashed_ip_address) deferrable", ("not-unique",), says="deferrable"),
    Situation("a partial one", "alter table ip_addresses drop constraint ip_addresses_hashed_ip_address_key; create unique index parted on ip_addresses (hashed_ip_address) where is_banned", ("not-unique", "unique-expression"), says="parted is partial"),
    Situation("an expression", "alter table ip_addresses drop constraint ip_addresses_hashed_ip_address_key; create unique index lowered on ip_addresses (lower(hashed_ip_address))", ("not-unique", "unique-expression")),
    Situation("an invalid one", "alter table ip_addresses drop constraint ip_addresses_hashed_ip_address_key; create unique index broken on ip_addresses (hashed_ip_address); update pg_index set indisvalid = false where indexrelid = 'broken'::regclass", ("not-unique",), says="broken is invalid"),
    Situation("a temporal key", f"create extension btree_gist; alter table {E} drop constraint user_events_pkey; alter table {E} add period tsrange not null default '[2020-01-01,2021-01-01)', add primary key (id, period without overlaps)", ("not-unique",), plan=with_job(key="id"), version=180_000),
    Situation("a key that may be NULL", f"alter table {E} drop constraint user_events_pkey; alter table {E} alter id drop not null, add unique (id)", ("key-without-not-null",), plan=with_job(key="id")),
    Situation("an exclusion constraint with the link", f"alter table {E} add constraint once exclude using hash (ip_address_id with =) where (ip_address_id is null and false)", ("exclusion-constraint",), "public.user_events.once"),
    Situation("two spellings in a unique key", TWO.format("'198.51.100.7', null from one union all select source, 'x', ' 198.51.100.7', null"), ("link-collision",), "public.user_events.once", "1 row would be linked", purpose=Purpose.WRITE),
    Situation("a linked row and a text", TWO.format("null, (select id from ip_addresses where ip_address = '192.0.2.69') from one union all select source, 'x', '192.0.2.69', null"), ("link-collision",), purpose=Purpose.WRITE),
    Situation("two texts that are no address", TWO.format("'unknown', null from one union all select source, 'x', '-', null"), (), purpose=Purpose.WRITE),
    Situation("two addresses", TWO.format("'198.51.100.7', null from one union all select source, 'x', '198.51.100.8', null"), (), purpose=Purpose.WRITE),
    Situation("a table outside the plan, before a merge", "insert into ip_addresses (ip_address) values ('198.51.100.9'), ('::ffff:198.51.100.9'); create table logins (who text, a uuid references ip_addresses, unique (who, a)); insert into logins select 'x', id from ip_addresses where host(ip_address) like '%198.51.100.9'", ("link-collision",), "public.logins.logins_who_a_key", purpose=Purpose.REMEDY),
    Situation("the same addresses of two people", "insert into ip_addresses (ip_address) values ('198.51.100.9'), ('::ffff:198.51.100.9'); create table logins (who text, a uuid references ip_addresses, unique (who, a)); insert into logins select host(ip_address), id from ip_addresses where host(ip_address) like '%198.51.100.9'", (), purpose=Purpose.REMEDY),
    Situation("a BEFORE trigger", f"{FUNCTION} create trigger t before update on {E} for each row execute function touch()", ("before-trigger", "trigger-without-search-path"), "public.user_events.t", "may change, refuse or skip"),
    Situation("a BEFORE trigger that returns NULL", f"create function touch() returns trigger language plpgsql set search_path = '' as $$ begin return null; end $$; create trigger t before update on {E} for each row execute function touch()", ("before-trigger",), says="RETURN NULL"),
    Situation("with a WHEN", f"{FUNCTION} create trigger t before update on {E} for each row when (old.tag = 'x') execute function touch()", ("before-trigger", "trigger-without-search-path"), says="where its WHEN holds"),
    Situation("of other columns", f"{FUNCTION} create trigger t before update of tag on {E} for each row execute function touch()", ()),
    Situation("of our columns", f"{FUNCTION} create trigger t before update of ip_address_id on {E} for each row execute function touch()", ("before-trigger", "trigger-without-search-path")),
    Situation("before INSERT of events", f"{FUNCTION} create trigger t before insert on {E} for each row execute function touch()", ()),
    Situation("before INSERT of addresses", f"{FUNCTION} create trigger t before insert on ip_addresses for each row execute function touch()", ("before-trigger", "trigger-without-search-path")),
    Situation("a history trigger", f"{FUNCTION} create trigger t after update on {E} for each row execute function touch()", ("after-trigger", "trigger-without-search-path"), says="history"),
    Situation("a constraint trigger", f"{FUNCTION} create constraint trigger t after update on {E} deferrable for each row execute function touch()", ("after-trigger", "trigger-without-search-path")),
    Situation("a statement trigger with a transition table", f"{FUNCTION} create trigger t after update on {E} referencing old table as o for each statement execute function touch()", ("after-trigger", "trigger-without-search-path"), says="transition table"),
    Situation("ENABLE REPLICA", f"{FUNCTION} create trigger t after update on {E} for each row execute function touch(); alter table {E} enable replica trigger t", ()),
    Situation("ENABLE ALWAYS", f"{FUNCTION} create trigger t after update on {E} for each row execute function touch(); alter table {E} enable always trigger t", ("after-trigger", "trigger-without-search-path"), says="on replicas too"),
    Situation("DISABLE", f"{FUNCTION} create trigger t after update on {E} for each row execute function touch(); alter table {E} disable trigger t", ()),
    Situation("triggers do not matter to verify", f"{FUNCTION} create trigger t after update on {E} for each row execute function touch()", (), purpose=Purpose.READ),
    Situation("a rule INSTEAD", f"create rule r as on update to {E} do instead nothing", ("rule",), "public.user_events.r"),
    Situation("a rule ALSO", "create rule r as on insert to ip_addresses do also notify x", ("rule",), "public.ip_addresses.r"),
    Situation("a rule on DELETE", f"create rule r as on delete to {E} do also select 1", ()),
    Situation("a rule that is disabled", f"create rule r as on update to {E} do also notify x; alter table {E} disable rule r", ()),
    Situation("another role's trigger under a superuser", f"create role {ROLE}; {FUNCTION} alter function touch() set search_path = ''; alter function touch() owner to {ROLE}; create trigger t after update on {E} for each row execute function touch()", ("after-trigger", "runs-as-privileged-role"), says=f"{ROLE} may rewrite"),
    Situation("another role's CHECK under a superuser", f"create role {ROLE}; create function fine(text) returns boolean language sql immutable as 'select true'; alter function fine(text) owner to {ROLE}; alter table {E} add constraint c check (fine(tag))", ("runs-as-privileged-role",), "public.user_events.c"),
    Situation("another role's overload of a built-in", f"create role {ROLE}; create function lower(varchar) returns text language sql as 'select 1'; alter function lower(varchar) owner to {ROLE}", ("overloads-built-in",), "public.lower", f"owned by {ROLE}"),
    Situation("another role's operator", f"create role {ROLE}; create function same(varchar, varchar) returns boolean language sql as 'select true'; create operator = (leftarg = varchar, rightarg = varchar, function = same); alter operator = (varchar, varchar) owner to {ROLE}", ("overloads-built-in",), "public.="),
    Situation("an overload outside the path", f"create role {ROLE}; create schema aside; create function aside.lower(varchar) returns text language sql as 'select 1'; alter function aside.lower(varchar) owner to {ROLE}", ()),
    Situation("a function of another name", f"create role {ROLE}; create function lowest(varchar) returns text language sql as 'select 1'; alter function lowest(varchar) owner to {ROLE}", ()),
    Situation("an overload of the tables' owner", f"create role {ROLE}; alter table {E} owner to {ROLE}; create function lower(varchar) returns text language sql as 'select 1'; alter function lower(varchar) owner to {ROLE}", ()),
    Situation("a violated CHECK", f"alter table {E} add constraint c check (tag = 'none') not valid", ("check-violated",), "public.user_events.c"),
    Situation("a CHECK that is not valid, and holds", f"alter table {E} add constraint c check (tag <> 'none') not valid", ()),
    Situation("a CHECK that calls a function", f"create function fine(text) returns boolean language sql immutable as 'select true'; alter table {E} add constraint c check (fine(tag)) not valid", ("check-not-valid",)),
    Situation("either text or link", f"alter table {E} add constraint c check (ip_address_id is null or ip_address_string is null) not valid", ("check-violated", "check-on-written-column", "dropped-along")),
    Situation("a CHECK on the hash", "alter table ip_addresses add constraint c check (length(hashed_ip_address) < 99)", ("check-on-written-column",), "public.ip_addresses.c"),
    Situation("a CHECK that is not enforced", f"alter table {E} add constraint c check (tag = 'none') not enforced", ("constraint-not-enforced",), version=180_000),
    Situation("no foreign key", f"alter table {E} drop constraint user_events_ip_address_id_fkey", ("no-foreign-key",)),
    Situation("a foreign key that is not enforced", f"alter table {E} alter constraint user_events_ip_address_id_fkey not enforced", ("no-foreign-key",), version=180_000),
    Situation("a foreign key elsewhere", f"create table others (id uuid primary key); insert into others select distinct ip_address_id from {E} where ip_address_id is not null; alter table {E} drop constraint user_events_ip_address_id_fkey, add constraint f foreign key (ip_address_id) references others", ("foreign-key-elsewhere", "no-foreign-key"), "public.user_events.f"),
    Situation("a foreign key that is not valid", f"alter table {E} drop constraint user_events_ip_address_id_fkey, add constraint f foreign key (ip_address_id) references ip_addresses not valid", ("foreign-key-not-valid",)),
    Situation("published", f"create publication p for table {E}", ("published",)),
    Situation("published without identity", f"create publication p for table {E}; alter table {E} replica identity nothing", ("no-replica-identity", "published")),
    Situation("all tables published, no primary key", f"alter table {E} drop constraint user_events_pkey; alter table {E} add unique (id); create publication p for all tables", ("no-replica-identity", "published", "published", "published", "published", "published", "published")),
    Situation("the old row published", f"create publication p for table {E}; alter table {E} replica identity full", ("old-row-published",)),
    Situation("an identity with the raw column", f"delete from {E} where ip_address_string is null; alter table {E} alter ip_address_string set not null; create unique index i on {E} (id, ip_address_string); alter table {E} replica identity using index i; create publication p for table {E}", ("dropped-along", "old-row-published")),
    Situation("a row filter", f"create publication p for table {E} where (tag = 'x')", ("publication-filter", "published"), version=150_000),
    Situation("inserts published only", f"alter table {E} replica identity nothing; create publication p for table {E} with (publish = 'insert')", ()),
    Situation("a trigger whose function names the raw column", f"create function keep() returns trigger language plpgsql as $$ begin new.tag := coalesce(NEW.ip_address_string, new.tag); return new; end $$; create trigger t before insert on {E} for each row execute function keep()", ("trigger-names-column",), "public.user_events.t", "statements that fire it fail"),
    Situation("a trigger whose function names a longer column", f"create function keep() returns trigger language plpgsql as $$ begin raise notice 'old_ip_address_string2'; return new; end $$; create trigger t before insert on {E} for each row execute function keep()", ()),
    Situation("a trigger on DELETE that names the discarded column", "create function keep() returns trigger language plpgsql as $$ begin perform old.submitted_from; return old; end $$; create trigger t after delete on journals for each row execute function keep()", ("trigger-names-column",), "public.journals.t"),
    Situation("an index with the raw column", f"create index i on {E} (tag, ip_address_string)", ("dropped-along",), "public.user_events.i"),
    Situation("an index over an expression of it", f"create index i on {E} (lower(ip_address_string))", ("dropped-along",), "public.user_events.i"),
    Situation("an index with a predicate on it", f"create index i on {E} (tag) where ip_address_string is null", ("dropped-along",), "public.user_events.i"),
    Situation("a unique constraint with it", f"alter table {E} add constraint u unique (id, ip_address_string)", ("dropped-along",), "public.user_events.u", "UNIQUE (id, ip_address_string)"),
    Situation("a primary key with it", f"delete from {E} where ip_address_string is null; alter table {E} drop constraint user_events_pkey, add primary key (id, ip_address_string), add unique (id)", ("dropped-along",), "public.user_events.user_events_pkey"),
    Situation("an exclusion constraint with it", f"alter table {E} add constraint x exclude using btree (id with =, ip_address_string with =)", ("dropped-along",), "public.user_events.x"),
    Situation("a CHECK on it", f"alter table {E} add constraint c check (ip_address_string <> 'nowhere')", ("dropped-along",), "public.user_events.c"),
    Situation("statistics with it", f"create statistics s on tag, ip_address_string from {E}", ("dropped-along",), "public.user_events.s"),
    Situation("a sequence of its own", f"create sequence s owned by {E}.ip_address_string", ("dropped-along",), "public.user_events.s"),
    Situation("a unique constraint with the address, beside its own", "alter table ip_addresses add constraint u unique (id, ip_address)", ("dropped-along",), "public.ip_addresses.u"),
    Situation("an index on a column that is discarded", "create index i on journals (submitted_from)", ("dropped-along",), "public.journals.i"),
    Situation("an index elsewhere", f"create index i on {E} (tag, time)", ()),
    Situation("a view", f"create view v as select ip_address_string from {E}", ("keeps-column",), "public.user_events.public.v", "View public.v keeps"),
    Situation("a view of other columns", f"create view v as select tag from {E}", ()),
    Situation("a view of a view", f"create view v as select ip_address_string as raw from {E}; create view w as select raw from v", ("keeps-column",)),
    Situation("a materialized view of the discarded column", "create materialized view m as select submitted_from from journals", ("keeps-column",), says="Materialized view public.m"),
    Situation("a view of the address", "create view v as select ip_address from ip_addresses", ("keeps-column",), "public.ip_addresses.public.v"),
    Situation("a generated column", f"alter table {E} add short text generated always as (left(ip_address_string, 4)) stored", ("keeps-column",), says="short", version=150_000),
    Situation("a generated column, which goes with it until 14", f"alter table {E} add short text generated always as (left(ip_address_string, 4)) stored", ("dropped-along",), "public.user_events.short", before=150_000),
    Situation("a policy", f"create policy p on {E} using (ip_address_string is null)", ("keeps-column",), says="olicy p"),
    Situation("a trigger UPDATE OF", f"{FUNCTION} create trigger t before update of ip_address_string on {E} for each row execute function touch()", ("keeps-column",), "public.user_events.t"),
    Situation("a trigger WHEN", f"{FUNCTION} create trigger t before insert on {E} for each row when (new.ip_address_string is null) execute function touch()", ("keeps-column",), "public.user_events.t"),
    Situation("a column list of a publication", f"create publication p for table {E} (id, ip_address_string)", ("keeps-column", "published"), version=150_000),
    Situation("a function BEGIN ATOMIC", f"create function f() returns text begin atomic select max(ip_address_string) from {E}; end", ("keeps-column",), says="unction public.f()"),
    Situation("a foreign key that points at it", f"delete from {E}; alter table {E} add constraint u unique (ip_address_string); create table others (raw varchar references {E} (ip_address_string))", ("dropped-along", "keeps-column"), says="others_raw_fkey"),
    Situation("dependents do not matter to a run", f"create view v as select ip_address_string from {E}; create index i on {E} (tag, ip_address_string)", (), purpose=Purpose.WRITE),
    Situation("a copy does without its indexes", f"create index i on {E} (tag, ip_address_string)", ("dropped-along",), purpose=Purpose.COPY),
    Situation("no SELECT", f"revoke select on {E} from {ROLE}", ("missing-privilege",), role=True, says="lacks SELECT on user_events"),
    Situation("no UPDATE", f"revoke update on {E} from {ROLE}", ("missing-privilege",), role=True, says="lacks UPDATE on user_events"),
    Situation("UPDATE on single columns", f"revoke update on {E} from {ROLE}; grant update (ip_address_id, additional) on {E} to {ROLE}", ("missing-privilege",), role=True, says="single columns"),
    Situation("verify needs no UPDATE", f"revoke update on {E} from {ROLE}; revoke insert, update on ip_addresses from {ROLE}", (), role=True, purpose=Purpose.READ),
    Situation("no USAGE on the schema", "revoke usage on schema public from public", ("schema-usage",), "public", role=True),
    Situation("no USAGE on a sequence", "create sequence numbers; alter table ip_addresses add n bigint default nextval('numbers')", ("sequence-usage",), "public.ip_addresses.numbers", role=True),
    Situation("no EXECUTE on a default's function", "create function one() returns int language sql as 'select 1'; revoke execute on function one() from public; alter table ip_addresses add n int default one()", ("function-execute",), role=True),
    Situation("an inet as a key", f"alter table {E} alter id drop default, alter id type inet using '::'::inet + ('x' || left(id::text, 8))::bit(32)::bigint", ("address-in-key",), f"public.{E}.id", plan=with_job(key="id")),
    Situation("an inet as the primary key", f"alter table {E} alter id drop default, alter id type inet using '::'::inet + ('x' || left(id::text, 8))::bit(32)::bigint", ("no-row-key",), f"public.{E}"),
    Situation("read-only", "set transaction read only", ("read-only",)),
    Situation("session_replication_role", "set local session_replication_role = replica", ("replica-role",)),
    Situation("no CREATE on the database", f"do $$ begin execute format('revoke create on database %I from {ROLE}', current_database()); end $$", ("ledger-schema",), role=True),
    Situation("no temporary tables", f"do $$ begin execute format('revoke temporary on database %I from public, {ROLE}', current_database()); end $$", ("temporary-tables",), role=True),
    Situation("an event trigger", "create function e() returns event_trigger language plpgsql as $$ begin end $$; create event trigger no_ddl on ddl_command_end execute function e()", ("event-trigger",), "no_ddl"),
]  # fmt: skip

# What takes another server or another database than the demo's.
SHOWN_ELSEWHERE = {
    "sql-ascii": "test_a_database_in_sql_ascii",
    "standby": "tests/acceptance/test_bad_input.py",
    "temporary-table": "test_a_temporary_table_under_the_name_of_one",
    "undecodable-name": "tests/integration/test_undecodable.py",
    "undecodable-key": "tests/integration/test_undecodable.py",
    "access-method": "test_another_access_method",
    **dict.fromkeys(
        (
            "unknown-zone",
            "time-too-old",
            "times-ahead",
            "few-times-ahead",
            "time-reading",
            "no-time-index",
        ),
        "tests/integration/test_ages.py",
    ),
    "left-behind-trigger": "tests/integration/test_into.py",
    "rewritten-otherwise": "tests/integration/test_consent.py",
    "rewritten-before": "tests/integration/test_consent.py",
    "filled-by-subscription": "test_a_table_that_a_subscription_fills",
}


def run(connection: Connection, statements: str) -> None:
    execute(connection, sql.SQL(statements)).close()


def everything(plan: Plan) -> tuple:
    return (plan.addresses, *plan.jobs, *plan.discard)


@pytest.fixture(scope="module")
def connection(databases: Databases) -> Iterator[Connection]:
    """A session on a demo database, of which every test takes back what it changed."""
    databases.template("small demo", fill_demo)
    url = databases.clone("small demo")
    engine = make_engine(make_url(url), ledger_schema="backfill")
    with engine.connect() as connection:
        connection.execute(text("select 1"))
        yield connection
        connection.rollback()
    engine.dispose()
    databases.drop(url)


def inspect(connection: Connection, situation: Situation) -> Report:
    number = connection.connection.driver_connection.server_version
    if not situation.version <= number < situation.before:
        pytest.skip(f"the server is {number}")
    run(connection, "set local search_path = public")
    if situation.role:
        run(connection, GRANTS)
        run(
            connection,
            f"do $$ begin execute format('grant create, temporary on database %I to {ROLE}', current_database()); end $$",
        )
    run(connection, situation.change)
    if situation.role:
        run(connection, f"set local role {ROLE}")
    plan = situation.plan
    return checks.inspect(connection, plan, everything(plan), "backfill", situation.purpose)


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


@pytest.mark.parametrize("purpose", Purpose)
def test_nothing_is_found_in_the_demo(connection: Connection, purpose: Purpose) -> None:
    report = checks.inspect(connection, PYPI, everything(PYPI), "backfill", purpose)
    connection.rollback()
    assert (report.blocking, report.unaccepted, report.notes) == ((), (), ())


def test_an_accepted_change_is_no_longer_in_the_way(connection: Connection) -> None:
    change = f"{FUNCTION} create trigger t after update on {E} for each row execute function touch()"
    name = "after-trigger:public.user_events.t"
    try:
        run(connection, "set local search_path = public")
        run(connection, change)
        by_option = checks.inspect(
            connection, PYPI, everything(PYPI), "backfill", Purpose.WRITE, [name, "rule:public.x.y"]
        )
        assert by_option.fit
        assert [one.name for one in by_option.accepted] == [name]
        assert by_option.unknown == ("rule:public.x.y",)
        plan = PYPI.model_copy(update={"accept": (name,)})
        assert checks.inspect(connection, plan, everything(plan), "backfill", Purpose.WRITE).fit
        assert plan.fingerprint("default") == PYPI.fingerprint("default")
    finally:
        connection.rollback()


def test_a_blocking_finding_cannot_be_accepted(connection: Connection) -> None:
    try:
        run(connection, f"create rule r as on update to public.{E} do instead nothing")
        report = checks.inspect(
            connection, PYPI, everything(PYPI), "backfill", Purpose.WRITE, ["rule:public.user_events.r"]
        )
        assert not report.fit
        assert report.blocking[0].severity is Severity.BLOCKS
    finally:
        connection.rollback()


def test_another_access_method(connection: Connection) -> None:
    """None but heap comes with a server: another name for its handler is another access method."""
    try:
        run(
            connection,
            f"create access method pile type table handler heap_tableam_handler; set local search_path = public;"
            f" alter table {E} rename to old; create table {E} (like old including all) using pile;"
            f" alter table {E} add foreign key (ip_address_id) references ip_addresses",
        )
        report = checks.inspect(connection, PYPI, everything(PYPI), "backfill", Purpose.WRITE)
        assert [one.code for one in report.blocking] == ["access-method"]
    finally:
        connection.rollback()


def test_a_temporary_table_under_the_name_of_one(connection: Connection) -> None:
    try:
        run(connection, "create temporary table passing (id uuid primary key, ip text, link uuid)")
        schema = value(
            connection, sql.SQL("select nspname from pg_namespace where oid = pg_my_temp_schema()")
        )
        job = LinkJob(table="passing", schema=schema, raw="ip", link="link", extra=None, time=None)
        report = checks.inspect(connection, PYPI, [job], "backfill", Purpose.WRITE)
        assert [one.code for one in report.blocking] == ["temporary-table"]
    finally:
        connection.rollback()


def test_a_table_that_a_subscription_fills(connection: Connection) -> None:
    try:
        run(connection, "create subscription s connection 'dbname=none' publication p with (connect = false)")
        run(
            connection,
            f"insert into pg_subscription_rel (srsubid, srrelid, srsubstate) select oid, 'public.{E}'::regclass, 'r'"
            " from pg_subscription where subname = 's'",
        )
        report = checks.inspect(connection, PYPI, everything(PYPI), "backfill", Purpose.WRITE)
        assert [one.name for one in report.unaccepted] == [f"filled-by-subscription:public.{E}.s"]
    finally:
        connection.rollback()


def test_a_database_in_sql_ascii(databases: Databases) -> None:
    name = f"ascii_{uuid.uuid4().hex[:8]}"
    query(databases.server_url, f"create database {name} template template0 encoding 'SQL_ASCII' locale 'C'")
    engine = make_engine(make_url(databases.url(name)), ledger_schema="backfill")
    try:
        with engine.connect() as connection:
            report = checks.inspect(connection, PYPI, [], "backfill", Purpose.READ)
        assert [one.code for one in report.blocking] == ["sql-ascii"]
    finally:
        engine.dispose()
        databases.drop(databases.url(name))


def test_the_commands_say_it_and_a_run_puts_on_record_what_it_accepted(fresh_demo: Operator) -> None:
    query(
        fresh_demo.url,
        f"{FUNCTION} create trigger t after update on {E} for each row execute function touch()",
    )
    name = f"after-trigger:public.{E}.t"
    said = fresh_demo.types("plan", "--no-sample", expect=2)
    assert f"Will change, not accepted:\n- {name}: Trigger t of {E} runs public.touch" in said.out
    refused = fresh_demo.types("run", "--quiet", expect=2)
    assert f"`backfill run --accept {name}`" in refused.err
    assert query(fresh_demo.url, "select from pg_namespace where nspname = 'backfill'") == []
    said = fresh_demo.types("plan", "--no-sample", "--accept", name)
    assert "Will change, accepted:" in said.out
    assert f"Next: `backfill calibrate`, then `backfill run --accept {name}`." in said.out
    assert "Nothing is in the way, as far as was looked at: kind of relation, columns" in said.out
    fresh_demo.types("run", "--quiet", "--accept", name)
    assert query(
        fresh_demo.url, "select detail ->> 'finding' from backfill.decisions where kind = 'accept'"
    ) == [(name,)]
    fresh_demo.types("run", "--quiet")
    fresh_demo.types("plan", "--no-sample")


def test_what_a_trigger_kept_from_changing_is_said(fresh_demo: Operator) -> None:
    query(
        fresh_demo.url,
        """create function public.keep() returns trigger language plpgsql set search_path = '' as
               $$ begin if new.id::text < '4' then return null; end if; return new; end $$;
           create trigger keep before update on public.team_events for each row execute function public.keep()""",
    )
    said = fresh_demo.types("run", "--quiet", "--accept", "before-trigger:public.team_events.keep")
    ((left,),) = query(
        fresh_demo.url, "select kept from backfill.run_tables where job like 'public.team_events.%'"
    )
    assert left > 0
    assert (
        f"{left:,} rows of team_events could be linked and are not: trigger keep may have kept them as before."
        in said.out
    )
    query(fresh_demo.url, "drop trigger keep on public.team_events")
    assert "may have kept" not in fresh_demo.types("run", "--quiet").out


def test_a_run_uses_its_first_look_once_and_while_it_is_fresh(
    fresh_demo: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was changed since is not what the batches are told to expect; and any later look sees it."""
    for name, text_of in fresh_demo.variables.items():
        monkeypatch.setenv(name, text_of)
    session = Session(Settings.load())
    try:
        old, fresh = (preflight.RunPreflight(session, session.plan.jobs, Purpose.WRITE, ()) for _ in range(2))
        before = fresh.definitions()
        query(
            fresh_demo.url,
            f"{FUNCTION} create trigger touch before update on {E} for each row execute function touch()",
        )
        with pytest.raises(SchemaUnfit, match="touch"):
            fresh.definitions()
        monkeypatch.setattr(preflight, "FRESH_SECONDS", 0.0)
        with pytest.raises(SchemaUnfit, match="touch"):
            old.definitions()
        accepted = (f"before-trigger:public.{E}.touch",)
        now = preflight.RunPreflight(session, session.plan.jobs, Purpose.WRITE, accepted).definitions()
    finally:
        session.close()
    assert [job.table for job in session.plan.jobs if now[job.identity] != before[job.identity]] == [E]


def test_a_table_that_is_not_there_is_named_before_its_definition_is_asked_for(fresh_demo: Operator) -> None:
    query(fresh_demo.url, f"drop table {E}")
    assert f"Table {E} does not exist" in fresh_demo.types("run", "--quiet", expect=2).err
