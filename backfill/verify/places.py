"""Places: which rows lack one, as verify asks it.

Written apart from the writers' conditions and by other means (JSON taken to pieces as text, not a path
expression): a mistake there must show here. A place is an object with at least one value that is neither
null, nor empty, nor the "?" of an edge that does not know.
"""

from psycopg2 import sql

from backfill.plan import LinkJob, Place

HAS_PLACE = sql.SQL("""(
    case when jsonb_typeof({place}) = 'object'
         then exists (select from jsonb_each_text({place}) as said (key, word) where said.word not in ('', '?'))
         else false end
)""")


def has_place(place: sql.Composable) -> sql.Composable:
    """Whether the jsonb *place* says where something is; never NULL."""
    return HAS_PLACE.format(place=place)


def kept_place(where: Place) -> dict[str, sql.Composable]:
    """Of columns that hold nothing but the place of a row: ``is_place``, and ``is_other``: what is no object; never NULL.

    ``place``: the place as jsonb, with what says something.
    """
    if where.column is None:
        says = {
            key.value: sql.SQL("nullif(nullif(event.{}::text collate \"C\", ''), '?')").format(
                sql.Identifier(name)
            )
            for key, name in where.by_key
        }
        listed = sql.SQL(", ").join(
            sql.SQL("{}, {}").format(sql.Literal(key), value) for key, value in says.items()
        )
        return {
            "is_place": sql.SQL("(coalesce({}) is not null)").format(sql.SQL(", ").join(says.values())),
            "is_other": sql.SQL("false"),
            "place": sql.SQL("jsonb_strip_nulls(jsonb_build_object({}))").format(listed),
        }
    place = sql.Identifier("event", where.column)
    return {
        "place": sql.SQL("{}::jsonb").format(place),
        "is_place": has_place(place),
        "is_other": sql.SQL("(coalesce(jsonb_typeof({}), 'null') not in ('object', 'null'))").format(place),
    }


def event_place(job: LinkJob) -> dict[str, sql.Composable]:
    """``seen``: certainly has a place, told in one cheap look; ``lacks``: has none and could; ``no_place``: cannot."""
    if job.extra is None:
        return {"seen": sql.SQL("true"), "lacks": sql.SQL("false"), "no_place": sql.SQL("false")}
    names = {
        "extra": sql.Identifier("event", job.extra),
        "has_place": has_place(sql.SQL("({} -> 'geoip_info')").format(sql.Identifier("event", job.extra))),
    }
    return {
        "seen": sql.SQL("(length({extra} #>> '{{geoip_info,country_code}}') > 1) is true").format(**names),
        "lacks": sql.SQL("""(
            coalesce(jsonb_typeof({extra}), 'null') in ('object', 'null')
            and coalesce(jsonb_typeof({extra} -> 'geoip_info'), 'null') in ('object', 'null')
            and not {has_place})""").format(**names),
        # A list, a text or a number where an object belongs: counted, and nobody's fault.
        "no_place": sql.SQL("""(
            coalesce(jsonb_typeof({extra}), 'null') not in ('object', 'null')
            or coalesce(jsonb_typeof({extra} -> 'geoip_info'), 'null') not in ('object', 'null'))""").format(
            **names
        ),
    }
