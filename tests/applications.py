"""Applications that keep their columns: the tables in question, a few hundred rows, and statements like their own.

The tables are written from what the projects document, with the columns that matter here. In every statement
``:now`` is the moment of the application's clock, ``:utc`` the same without a zone, ``:ms`` in milliseconds, and
``:n`` the number of the step.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from tests.databases import query

V4, V6 = (
    "('81.2.' || n % 7 || '.' || n % 200 + 1)",
    "('2a00:5:' || n % 4 || ':' || n % 5 + 1 || '::' || n + 1)",
)
ADDRESS = f"(case n % 3 when 0 then {V6} else {V4} end)"


@dataclass(frozen=True)
class Column:
    """A raw column with its row's time, as an expression of timestamptz."""

    table: str
    raw: str
    time: str
    key: str = "id"


@dataclass(frozen=True)
class Application:
    """Its tables, its rows, what it goes on doing, and how a day passes for its rows."""

    name: str
    tables: str
    rows: str
    columns: tuple[Column, ...]
    writes: tuple[str, ...]
    day: tuple[str, ...]
    days: int | None = None  # the age at which the plan wants its values rewritten; none: at once

    def fill(self, url: str, now: datetime) -> None:
        """Tables and rows, of which the oldest is 400 days old."""
        query(url, self.tables)
        self._say(url, (self.rows,), now, 0)

    def write(self, url: str, now: datetime, step: int) -> None:
        """What the application does in a while."""
        self._say(url, self.writes, now, step)

    def sleep(self, url: str) -> None:
        """A day passes: every row is a day older."""
        self._say(url, self.day, datetime.now(UTC), 0)

    def _say(self, url: str, statements: tuple[str, ...], now: datetime, step: int) -> None:
        moment = now.isoformat()
        words = {
            ":now": f"timestamptz '{moment}'",
            ":utc": f"(timestamptz '{moment}' at time zone 'UTC')",
            ":ms": str(int(now.timestamp() * 1000)),
            ":n": str(step),
        }
        text = ";".join(statements)
        for word, meaning in words.items():
            text = text.replace(word, meaning)
        query(url, text)


MASTODON = Application(
    name="mastodon",
    days=28,
    tables="""
        create table users (id bigint generated always as identity primary key, email text not null unique, created_at timestamp not null,
            current_sign_in_at timestamp, sign_up_ip inet);
        create table session_activations (id bigint generated always as identity primary key, session_id text not null unique,
            user_id bigint not null references users on delete cascade, created_at timestamp not null, updated_at timestamp not null, ip inet);
        create table login_activities (id bigint generated always as identity primary key, user_id bigint not null references users on delete cascade,
            success boolean, created_at timestamp, ip inet);
        create index on login_activities (user_id);
        create table oauth_access_tokens (id bigint generated always as identity primary key, token text not null unique,
            resource_owner_id bigint references users on delete cascade, created_at timestamp not null, last_used_at timestamp, last_used_ip inet);
        create view user_ips as
            select user_id, ip, max(used_at) as used_at
              from (select id as user_id, sign_up_ip as ip, created_at as used_at from users where sign_up_ip is not null
                    union all select user_id, ip, updated_at from session_activations
                    union all select user_id, ip, created_at from login_activities where success) as seen
             group by user_id, ip
    """,
    rows=f"""
        insert into users (email, created_at, current_sign_in_at, sign_up_ip)
        select n || '@example.org', :utc - make_interval(days => 400 - n * 4, hours => 6), :utc - make_interval(days => n * 4), {ADDRESS}::inet
          from generate_series(1, 100) as n;
        insert into session_activations (session_id, user_id, created_at, updated_at, ip)
        select 's' || n, n, :utc - interval '400 days', :utc - make_interval(days => n, hours => 6), {ADDRESS}::inet from generate_series(1, 100) as n;
        insert into login_activities (user_id, success, created_at, ip)
        select n % 100 + 1, n % 5 > 0, :utc - make_interval(days => n, hours => 6), {ADDRESS}::inet from generate_series(1, 300) as n;
        insert into oauth_access_tokens (token, resource_owner_id, created_at, last_used_at, last_used_ip)
        select 't' || n, n, :utc - interval '400 days', case when n % 4 > 0 then :utc - make_interval(days => n, hours => 6) end,
               case when n % 4 > 0 then {ADDRESS}::inet end from generate_series(1, 100) as n
    """,
    columns=(
        Column("users", "sign_up_ip", "created_at at time zone 'UTC'"),
        Column("session_activations", "ip", "updated_at at time zone 'UTC'"),
        Column("login_activities", "ip", "created_at at time zone 'UTC'"),
        Column("oauth_access_tokens", "last_used_ip", "last_used_at at time zone 'UTC'"),
    ),
    writes=(
        "insert into users (email, created_at, sign_up_ip) values ('new:n@example.org', :utc, '2a00:5:1:2::9')",
        "insert into login_activities (user_id, success, created_at, ip) values (:n, true, :utc, '81.2.3.4')",
        "insert into session_activations (session_id, user_id, created_at, updated_at, ip) values ('new:n', :n, :utc, :utc, '198.51.100.7')",
        "update session_activations set ip = '81.2.3.4', updated_at = :utc where session_id = 's' || 90 + :n",
        "update oauth_access_tokens set last_used_ip = '2a00:5:1:2::77', last_used_at = :utc where id = 90 + :n",
        # Its own retention: a year.
        "update users set sign_up_ip = null where current_sign_in_at < :utc - interval '1 year'",
        "delete from session_activations where updated_at < :utc - interval '1 year'",
        "delete from login_activities where created_at < :utc - interval '1 year'",
    ),
    day=(
        "update users set created_at = created_at - interval '1 day', current_sign_in_at = current_sign_in_at - interval '1 day'",
        "update session_activations set updated_at = updated_at - interval '1 day'",
        "update login_activities set created_at = created_at - interval '1 day'",
        "update oauth_access_tokens set last_used_at = last_used_at - interval '1 day'",
    ),
)  # fmt: skip

KEYCLOAK = Application(
    name="keycloak",
    days=90,
    tables="""
        create table event_entity (id varchar(36) primary key, client_id varchar(255), details_json varchar(2550), error varchar(255),
            ip_address varchar(255), realm_id varchar(255), session_id varchar(255), event_time bigint, type varchar(255), user_id varchar(255));
        create index idx_event_time on event_entity (realm_id, event_time);
        create table admin_event_entity (id varchar(36) primary key, admin_event_time bigint, realm_id varchar(255), operation_type varchar(255),
            auth_user_id varchar(255), ip_address varchar(255), resource_path varchar(2550), representation text);
        create table offline_user_session (user_session_id varchar(36), user_id varchar(255), realm_id varchar(36), created_on integer,
            offline_flag varchar(4), data text, last_session_refresh integer, primary key (user_session_id, offline_flag))
    """,
    rows=f"""
        insert into event_entity (id, ip_address, realm_id, event_time, type, user_id)
        select md5(n::text)::uuid::text, case n % 50 when 0 then '10.1.2.3, 203.0.113.9' when 1 then 'unknown' else {ADDRESS} end,
               'master', :ms - (n * 24 + 6) * 3600000::bigint, 'LOGIN', 'u' || n % 20 from generate_series(0, 300) as n;
        insert into admin_event_entity (id, ip_address, realm_id, admin_event_time, operation_type)
        select md5(n::text)::uuid::text, {ADDRESS}, 'master', :ms - (n * 48 + 6) * 3600000::bigint, 'UPDATE' from generate_series(0, 150) as n
    """,
    columns=(
        Column("event_entity", "ip_address", "to_timestamp(event_time / 1000.0)"),
        Column("admin_event_entity", "ip_address", "to_timestamp(admin_event_time / 1000.0)"),
    ),
    writes=(
        "insert into event_entity (id, ip_address, realm_id, event_time, type) values (md5('e:n')::uuid::text, '81.2.3.4', 'master', :ms, 'LOGIN_ERROR')",
        "insert into admin_event_entity (id, ip_address, realm_id, admin_event_time) values (md5('a:n')::uuid::text, '2A00:5:1::2', 'master', :ms)",
        "delete from event_entity where realm_id = 'master' and event_time < :ms - 299 * 86400000::bigint",  # the realm's expiration
    ),
    day=(
        "update event_entity set event_time = event_time - 86400000",
        "update admin_event_entity set admin_event_time = admin_event_time - 86400000",
    ),
)  # fmt: skip

AXES = Application(
    name="axes",
    tables="""
        create table axes_accesslog (id integer generated by default as identity primary key, user_agent varchar(255) not null, ip_address inet,
            username varchar(255), http_accept varchar(1025) not null, path_info varchar(255) not null, attempt_time timestamptz not null, logout_time timestamptz);
        create index on axes_accesslog (ip_address);
        create table axes_accessfailurelog (id integer generated by default as identity primary key, user_agent varchar(255) not null, ip_address inet,
            username varchar(255), http_accept varchar(1025) not null, path_info varchar(255) not null, attempt_time timestamptz not null, locked_out boolean not null);
        create index on axes_accessfailurelog (ip_address);
        create table axes_accessattempt (id integer generated by default as identity primary key, user_agent varchar(255) not null, ip_address inet,
            username varchar(255), attempt_time timestamptz not null, get_data text not null, post_data text not null, failures_since_start integer not null,
            unique (username, ip_address, user_agent))
    """,
    rows=f"""
        insert into axes_accesslog (user_agent, ip_address, username, http_accept, path_info, attempt_time)
        select 'browser', case when n % 20 > 0 then {ADDRESS}::inet end, 'u' || n % 20, '*/*', '/login/', :now - make_interval(days => n) from generate_series(1, 300) as n;
        insert into axes_accessfailurelog (user_agent, ip_address, username, http_accept, path_info, attempt_time, locked_out)
        select 'browser', {ADDRESS}::inet, 'u' || n % 20, '*/*', '/login/', :now - make_interval(days => n), n % 7 = 0 from generate_series(1, 300) as n
    """,
    columns=(
        Column("axes_accesslog", "ip_address", "attempt_time"),
        Column("axes_accessfailurelog", "ip_address", "attempt_time"),
    ),
    writes=(
        "insert into axes_accesslog (user_agent, ip_address, username, http_accept, path_info, attempt_time) values ('browser', '81.2.3.4', 'u1', '*/*', '/login/', :now)",
        "update axes_accesslog set logout_time = :now where id = 10 + :n",
        "insert into axes_accessfailurelog (user_agent, ip_address, username, http_accept, path_info, attempt_time, locked_out) values ('browser', '2a00:5:1::2', 'u2', '*/*', '/login/', :now, false)",
        """insert into axes_accessattempt as seen (user_agent, ip_address, username, attempt_time, get_data, post_data, failures_since_start)
           values ('browser', '2a00:5:1::2', 'u2', :now, '', '', 1)
           on conflict (username, ip_address, user_agent) do update set failures_since_start = seen.failures_since_start + 1, attempt_time = excluded.attempt_time""",
    ),
    day=("update axes_accesslog set attempt_time = attempt_time - interval '1 day'",),
)  # fmt: skip

DEVISE = Application(
    name="devise",
    days=30,
    tables="""
        create table users (id bigint generated always as identity primary key, email varchar not null unique, sign_in_count integer not null default 0,
            current_sign_in_at timestamp(6), last_sign_in_at timestamp(6), current_sign_in_ip varchar, last_sign_in_ip varchar)
    """,
    rows=f"""
        insert into users (email, sign_in_count, current_sign_in_at, last_sign_in_at, current_sign_in_ip, last_sign_in_ip)
        select n || '@example.org', n, :utc - make_interval(days => n % 60, hours => 6), :utc - make_interval(days => n % 60 + n % 9, hours => 6),
               {ADDRESS}, '81.2.3.' || n % 250 + 1 from generate_series(1, 300) as n
    """,
    columns=(
        Column("users", "current_sign_in_ip", "current_sign_in_at at time zone 'UTC'"),
        Column("users", "last_sign_in_ip", "last_sign_in_at at time zone 'UTC'"),
    ),
    writes=(
        # Trackable: what was current becomes last; of a user who comes back late (40 to 49), that is a pseudonym.
        """update users set last_sign_in_at = current_sign_in_at, last_sign_in_ip = current_sign_in_ip, current_sign_in_at = :utc,
                  current_sign_in_ip = '2A00:5:1::9', sign_in_count = sign_in_count + 1 where id in (10 + :n, 40 + :n)""",
        "insert into users (email, sign_in_count) values ('new:n@example.org', 0)",
    ),
    day=("update users set current_sign_in_at = current_sign_in_at - interval '1 day', last_sign_in_at = last_sign_in_at - interval '1 day'",),
)  # fmt: skip

SYNAPSE = Application(
    name="synapse",
    tables="""
        create table user_ips (user_id text not null, access_token text not null, device_id text, ip text not null, user_agent text not null, last_seen bigint not null);
        create unique index user_ips_user_token_ip_unique_index on user_ips (user_id, access_token, ip);
        create table devices (user_id text not null, device_id text not null, display_name text, last_seen bigint, ip text, user_agent text,
                              constraint device_uniqueness unique (user_id, device_id))
    """,
    rows=f"""
        insert into devices (user_id, device_id, last_seen, ip)
        select '@u' || n % 9, 'D' || n, :ms - n * 3600000::bigint, {ADDRESS} from generate_series(1, 300) as n;
        insert into user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
        select '@u' || n % 9, 't' || n % 18, 'D' || n % 18, {ADDRESS}, 'Element', :ms - n * 3600000::bigint from generate_series(1, 400) as n
            on conflict do nothing
    """,
    columns=(
        Column("user_ips", "ip", "to_timestamp(last_seen / 1000.0)", "ctid"),
        Column("devices", "ip", "to_timestamp(last_seen / 1000.0)", "user_id || device_id"),
    ),
    # Each session comes from an address of long ago, and from one of its own.
    writes=(
        f"""insert into user_ips (user_id, access_token, device_id, ip, user_agent, last_seen)
            select '@u' || n % 9, 't' || n % 18, 'D' || n % 18, {ADDRESS}, 'Element', :ms + :n from generate_series(300 + :n * 9, 308 + :n * 9) as n
                on conflict (user_id, access_token, ip) do update set last_seen = excluded.last_seen, user_agent = excluded.user_agent""",
        "insert into user_ips (user_id, access_token, ip, user_agent, last_seen) values ('@u1', 't1', '81.2.9.9', 'Element', :ms + :n) on conflict (user_id, access_token, ip) do update set last_seen = excluded.last_seen",
        "update devices set last_seen = :ms + :n, ip = '81.2.9.9' where device_id = 'D' || (200 + :n)",
    ),
    day=(
        "update user_ips set last_seen = last_seen - 86400000::bigint",
        "update devices set last_seen = last_seen - 86400000::bigint",
    ),
    days=7,
)  # fmt: skip

COMPLETE = (MASTODON, KEYCLOAK, AXES, DEVISE, SYNAPSE)  # with a plan of their own
APPLICATIONS = {application.name: application for application in COMPLETE}
