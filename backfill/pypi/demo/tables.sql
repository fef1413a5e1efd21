-- PyPI's tables that have to do with addresses, as they stood in May 2023. Keys, indexes and triggers
-- follow in constraints.sql, after the rows: building an index beats maintaining it.

create type public.banreason as enum ('authentication-attempts');

create table public.alembic_version (version_num varchar(32) not null);
insert into public.alembic_version values ('d0a1b2c3e4f5'); -- the application's own history, not ours

create table public.users (
    id uuid not null default gen_random_uuid(),
    username public.citext not null,
    name varchar(100) not null,
    password varchar(128) not null,
    is_active boolean not null default true,
    is_superuser boolean not null default false,
    date_joined timestamp default now(),
    last_login timestamp
);

create table public.user_emails (
    id serial not null,
    user_id uuid not null,
    email varchar(254) not null,
    "primary" boolean not null,
    verified boolean not null
);

create table public.projects (
    id uuid not null default gen_random_uuid(),
    name text not null,
    normalized_name text not null,
    created timestamp default now(),
    last_serial integer not null default 0
);

create table public.releases (
    id uuid not null default gen_random_uuid(),
    project_id uuid not null,
    version text not null,
    created timestamp not null default now()
);

create table public.release_files (
    id uuid not null default gen_random_uuid(),
    release_id uuid not null,
    filename text not null,
    size integer,
    upload_time timestamp default now()
);

create table public.organizations (
    id uuid not null default gen_random_uuid(),
    name text not null,
    display_name text not null,
    link_url text not null,
    is_active boolean not null default false,
    created timestamp not null default now()
);

create table public.teams (
    id uuid not null default gen_random_uuid(),
    organization_id uuid not null,
    name text not null,
    created timestamp not null default now()
);

create table public.journals (
    id serial not null,
    name text,
    version text,
    action text,
    submitted_date timestamp not null default now(),
    submitted_by public.citext,
    submitted_from text
);

-- hashed_ip_address and geoip_info came last, by ALTER TABLE.
create table public.ip_addresses (
    id uuid not null default gen_random_uuid(),
    ip_address inet not null,
    is_banned boolean not null default false,
    ban_reason public.banreason,
    ban_date timestamp,
    hashed_ip_address text,
    geoip_info jsonb
);

-- The event tables were made at different times, so their columns stand in different orders.
create table public.user_events (
    id uuid not null default gen_random_uuid(),
    source_id uuid not null,
    tag varchar not null,
    time timestamp not null default now(),
    ip_address_string varchar,
    additional jsonb,
    ip_address_id uuid
);

create table public.project_events (
    id uuid not null default gen_random_uuid(),
    source_id uuid not null,
    tag varchar not null,
    time timestamp not null default now(),
    additional jsonb,
    ip_address_string varchar,
    ip_address_id uuid
);

create table public.file_events (
    tag varchar not null,
    time timestamp not null default now(),
    ip_address_string varchar,
    additional jsonb,
    id uuid not null default gen_random_uuid(),
    source_id uuid not null,
    ip_address_id uuid
);

create table public.organization_events (
    ip_address_id uuid,
    tag varchar not null,
    time timestamp not null default now(),
    additional jsonb,
    id uuid not null default gen_random_uuid(),
    source_id uuid not null,
    ip_address_string varchar
);

create table public.team_events (
    id uuid not null default gen_random_uuid(),
    tag varchar not null,
    time timestamp not null default now(),
    additional jsonb,
    ip_address_id uuid,
    ip_address_string varchar,
    source_id uuid not null
);
