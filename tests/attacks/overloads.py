"""Objects that take over a call: of the same name as PostgreSQL's own, of the same or of better fitting types.

Each does what the original does, and tells when a statement of the client called it by itself: what an
application's function calls is found by that application's path, and is its own affair.
"""

import re
from collections.abc import Iterable

from tests.databases import connect

TAKEN = "taken over: "
WORD = re.compile(r"[a-z_][a-z0-9_]*")
SIGNS = re.compile(r"[-+*/<>=~!@#%^&|`?]+")

# With "public, pg_catalog" as the path even an object of the very same types is found before the original. The
# others fit better than the original where that takes any type, or another one that ours turns into.
OVERLOAD = """
do $do$
declare
    one record;
    spread constant text[] := '{text,varchar,uuid,inet,jsonb,int4,int8,bool,timestamptz,name,public.citext}';
    concrete text;
    given text[];
    result text;
    place int;
    n int := 0;
begin
    create or replace function public.tells(what pg_catalog.text, context pg_catalog.text) returns void
        language plpgsql set search_path = pg_catalog as $$
    begin
        if (select count(*) from regexp_matches(context, '\\n', 'g')) < 1 then
            raise warning 'taken over: %', what;
        end if;
    end $$;
    for one in
        select p.proname as name, p.proargtypes, pg_catalog.format_type(p.prorettype, null) as result,
               array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as u (t, i) order by i) as arguments
          from pg_proc as p
         where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and not p.proretset
           and p.proallargtypes is null and p.provariadic = 0 and p.proname = any (names)
           and p.prorettype not in ('trigger'::regtype, 'internal'::regtype, 'cstring'::regtype, 'record'::regtype, 'void'::regtype)
    loop
        if one.arguments && '{internal,cstring,record,anyrange,anymultirange,anyenum,anycompatible,anycompatiblearray,anycompatiblenonarray}' then
            continue;
        end if;
        foreach concrete in array spread loop
            given := array(select case a when 'anyelement' then concrete when 'anynonarray' then concrete
                                         when '"any"' then concrete when 'anyarray' then concrete || '[]' else a end
                             from unnest(one.arguments) with ordinality as u (a, i) order by i);
            result := case one.result when 'anyelement' then concrete when 'anyarray' then concrete || '[]' else one.result end;
            perform pg_temp.takes(one.name, one.arguments, given, result);
            exit when given = one.arguments and not one.arguments && '{text,name}';
            -- varchar and citext where ours may be turned into the original's text
            if one.arguments && '{text,name}' then
                for place in 1 .. cardinality(one.arguments) loop
                    if one.arguments[place] in ('text', 'name') then
                        given := one.arguments;
                        given[place] := concrete;
                        perform pg_temp.takes(one.name, one.arguments, given, result);
                    end if;
                end loop;
                given := array(select case when a in ('text', 'name') then concrete else a end
                                 from unnest(one.arguments) with ordinality as u (a, i) order by i);
                perform pg_temp.takes(one.name, one.arguments, given, result);
            end if;
        end loop;
    end loop;
    for one in
        select o.oprname as name, o.oprkind, format_type(o.oprleft, null) as l, format_type(o.oprright, null) as r,
               format_type(o.oprresult, null) as result
          from pg_operator as o
         where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprname = any (signs)
           and o.oprcode <> 0 and not '{anyrange,anymultirange,anyenum,anycompatible,anycompatiblearray,anycompatiblenonarray,record}'
               && array[format_type(o.oprleft, null), format_type(o.oprright, null)]
    loop
        foreach concrete in array spread loop
            n := n + 1;
            place := 0;
            if one.l || one.r !~ 'any|text|name' and concrete <> 'text' then
                exit;
            end if;
            declare
                l text := case one.l when 'anyelement' then concrete when 'anynonarray' then concrete when 'anyarray' then concrete || '[]' else one.l end;
                r text := case one.r when 'anyelement' then concrete when 'anynonarray' then concrete when 'anyarray' then concrete || '[]' else one.r end;
                res text := case one.result when 'anyelement' then concrete when 'anyarray' then concrete || '[]' else one.result end;
            begin
                perform pg_temp.takes_sign(one.name, one.oprkind = 'l', one.l, one.r, l, r, res);
                if one.l = 'text' or one.r = 'text' then
                    perform pg_temp.takes_sign(one.name, one.oprkind = 'l', one.l, one.r,
                        case l when 'text' then concrete else l end, case r when 'text' then concrete else r end, res);
                    perform pg_temp.takes_sign(one.name, one.oprkind = 'l', one.l, one.r, case l when 'text' then concrete else l end, r, res);
                    perform pg_temp.takes_sign(one.name, one.oprkind = 'l', one.l, one.r, l, case r when 'text' then concrete else r end, res);
                end if;
            end;
        end loop;
    end loop;
end $do$
"""

HELPERS = """
create function pg_temp.takes(name text, original text[], given text[], result text) returns void language plpgsql as $f$
begin
    execute format(
        $x$create function public.%I(%s) returns %s language plpgsql set search_path = pg_catalog as $b$
        declare stack text;
        begin
            get diagnostics stack = pg_context;
            perform public.tells(%L, stack);
            return pg_catalog.%I(%s);
        end $b$$x$,
        name, array_to_string(given, ', '), result, name || '(' || array_to_string(given, ', ') || ')', name,
        (select coalesce(string_agg('$' || i || case when o like '%any%' then '' else '::' || o end, ', ' order by i), '')
           from unnest(original) with ordinality as u (o, i)));
exception when others then
    null;  -- not every combination makes sense; what cannot be made takes nothing over
end $f$;
create function pg_temp.takes_sign(name text, prefix boolean, original_left text, original_right text, l text, r text, result text)
    returns void language plpgsql as $f$
declare
    inner_name text := 'sign_' || md5(name || prefix || l || ' ' || r);
begin
    execute format(
        $x$create function public.%I(%s) returns %s language plpgsql set search_path = pg_catalog as $b$
        declare stack text;
        begin
            get diagnostics stack = pg_context;
            perform public.tells(%L, stack);
            return %s;
        end $b$$x$,
        inner_name, case when prefix then r else l || ', ' || r end, result,
        case when prefix then name || ' ' || r else l || ' ' || name || ' ' || r end,
        case when prefix then format('operator(pg_catalog.%s) $1%s', name, pg_temp.as_type(original_right))
             else format('$1%s operator(pg_catalog.%s) $2%s', pg_temp.as_type(original_left), name, pg_temp.as_type(original_right)) end);
    execute format('create operator public.%s (%s rightarg = %s, function = public.%I)',
        name, case when prefix then '' else 'leftarg = ' || l || ',' end, r, inner_name);
exception when others then
    null;
end $f$;
create function pg_temp.as_type(name text) returns text language sql as
    $f$select case when name like '%any%' then '' else '::' || name end$f$;
"""

# A cast to an unqualified type that is no word of the grammar finds the type by the path as well.
TYPES = """
create function public.type_taken(name pg_catalog.text) returns pg_catalog.bool language plpgsql set search_path = pg_catalog as $$
    declare stack text;
    begin
        get diagnostics stack = pg_context;
        perform public.tells('type ' || name, stack);
        return true;
    end $$;
do $$
declare name pg_catalog.text;
begin
    foreach name in array '{text,jsonb,json,uuid,inet,tid,oid,regclass,bytea,timestamptz,date,int8,int4,name}'::pg_catalog.text[] loop
        execute format('create domain public.%I as pg_catalog.%I check (public.type_taken(%L))', name, name, name);
    end loop;
end $$;
"""

AGGREGATES = """
create function public.counts(bigint) returns bigint language plpgsql set search_path = pg_catalog as $$
    begin raise warning 'taken over: count(*)'; return $1 + 1; end $$;
create aggregate public.count(*) (sfunc = public.counts, stype = bigint, initcond = '0');
"""


def names_and_signs(statements: Iterable[str]) -> tuple[list[str], list[str]]:
    """Every word and every run of operator signs in them."""
    text = "\n".join(statements).lower()
    return sorted(set(WORD.findall(text))), sorted(set(SIGNS.findall(text)))


def take_over(url: str, role: str, statements: Iterable[str]) -> int:
    """As *role*, make every overload of what *statements* may call; returns how many there are."""
    names, signs = names_and_signs(statements)
    connection = connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"set role {role}")
            cursor.execute("set search_path = pg_catalog, pg_temp; set client_min_messages = error")
            cursor.execute(HELPERS)
            body = OVERLOAD.replace("any (names)", f"any ('{{{','.join(names)}}}'::text[])")
            quoted = ",".join(f'"{sign}"' for sign in signs)
            body = body.replace("any (signs)", f"any ('{{{quoted}}}'::text[])")
            cursor.execute(body)
            cursor.execute(AGGREGATES)
            cursor.execute(TYPES)
            cursor.execute(
                """select (select count(*) from pg_proc where pronamespace = 'public'::regnamespace
                              and proowner = to_regrole(%s)), (select count(*) from pg_operator where oprowner = to_regrole(%s))""",
                (role, role),
            )
            functions, _operators = cursor.fetchone()
    finally:
        connection.close()
    return int(functions)
