-- What holds the rows of tables.sql together; run after they are loaded.

alter table public.alembic_version add primary key (version_num);
alter table public.users add primary key (id), add unique (username);
alter table public.user_emails add primary key (id), add unique (email);
alter table public.projects add primary key (id), add unique (normalized_name);
alter table public.releases add primary key (id), add unique (project_id, version);
alter table public.release_files add primary key (id), add unique (filename);
alter table public.organizations add primary key (id), add unique (name);
alter table public.teams add primary key (id), add unique (organization_id, name);
alter table public.journals add primary key (id);
alter table public.ip_addresses
    add primary key (id),
    add unique (ip_address),
    add unique (hashed_ip_address),
    add constraint ip_addresses_ban_check check (
        (is_banned and ban_reason is not null and ban_date is not null)
        or (not is_banned and ban_reason is null and ban_date is null)
    );
create index bans_idx on public.ip_addresses (is_banned);

alter table public.user_emails
    add foreign key (user_id) references public.users deferrable initially deferred;
create index user_emails_user_id on public.user_emails (user_id);
alter table public.releases
    add foreign key (project_id) references public.projects on update cascade on delete cascade;
alter table public.release_files
    add foreign key (release_id) references public.releases on update cascade on delete cascade;
create index release_files_release_id_idx on public.release_files (release_id);
alter table public.teams
    add foreign key (organization_id) references public.organizations on update cascade on delete cascade;

alter table public.journals
    add foreign key (submitted_by) references public.users (username) on update cascade;
create index journals_name_idx on public.journals (name);
create index journals_version_idx on public.journals (version);
create index journals_submitted_by_idx on public.journals (submitted_by);
create index journals_changelog on public.journals (submitted_date, name, version, action);
create index journals_latest_releases on public.journals (submitted_date, name, version)
    where version is not null and action = 'new release';

alter table public.user_events
    add primary key (id),
    add foreign key (source_id) references public.users on delete cascade deferrable initially deferred,
    add foreign key (ip_address_id) references public.ip_addresses on update cascade on delete cascade;
create index ix_user_events_source_id on public.user_events (source_id);

alter table public.project_events
    add primary key (id),
    add foreign key (source_id) references public.projects on delete cascade deferrable initially deferred,
    add foreign key (ip_address_id) references public.ip_addresses on update cascade on delete cascade;
create index ix_project_events_source_id on public.project_events (source_id);

alter table public.file_events
    add primary key (id),
    add foreign key (source_id) references public.release_files on delete cascade deferrable initially deferred,
    add foreign key (ip_address_id) references public.ip_addresses on update cascade on delete cascade;
create index ix_file_events_source_id on public.file_events (source_id);

alter table public.organization_events
    add primary key (id),
    add foreign key (source_id) references public.organizations on delete cascade deferrable initially deferred,
    add foreign key (ip_address_id) references public.ip_addresses on update cascade on delete cascade;
create index ix_organization_events_source_id on public.organization_events (source_id);

alter table public.team_events
    add primary key (id),
    add foreign key (source_id) references public.teams on delete cascade deferrable initially deferred,
    add foreign key (ip_address_id) references public.ip_addresses on update cascade on delete cascade;
create index ix_team_events_source_id on public.team_events (source_id);

select setval('public.user_emails_id_seq', (select max(id) from public.user_emails)),
       setval('public.journals_id_seq', (select coalesce(max(id), 1) from public.journals));

create function public.normalize_project_name(name text) returns text
    language sql immutable strict parallel safe
    return lower(regexp_replace(name, '[-_.]+', '-', 'g'));

create function public.maintain_normalized_name() returns trigger language plpgsql as $$
begin
    new.normalized_name := public.normalize_project_name(new.name);
    return new;
end;
$$;
create trigger projects_update_normalized_name
    before insert or update of name, normalized_name on public.projects
    for each row execute function public.maintain_normalized_name();

-- The side effect to beware of: whoever updates journals rewrites projects.
create function public.update_project_last_serial() returns trigger language plpgsql as $$
begin
    update public.projects as project
       set last_serial = coalesce((select max(id) from public.journals where name = project.name), 0)
     where project.normalized_name in (public.normalize_project_name(new.name), public.normalize_project_name(old.name));
    return null;
end;
$$;
create trigger update_project_last_serial
    after insert or delete or update on public.journals
    for each row execute function public.update_project_last_serial();
