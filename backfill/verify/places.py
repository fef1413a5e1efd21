"""Places: which rows lack one, as verify asks it.

Written apart from the writers' conditions and by other means (JSON taken to pieces as text, not a path
expression): a mistake there must show here. A place is an object with at least one value that is neither
null, nor empty, nor the "?" of an edge that does not know.
"""

from psycopg2 import sql

from backfill.plan import LinkJob

HAS_PLACE = sql.SQL("""(
    case when jsonb_typeof({place}) = 'object'
         then exists (select from jsonb_each_text({place}) as said (key, word) where said.word not in ('', '?'))
         else false end
)""")


def has_place(place: sql.Composable) -> sql.Composable:
    """Whether the jsonb *place* says where something is; never NULL."""
    return HAS_PLACE.format(place=place)


def column_place(column: str) -> dict[str, sql.Composable]:
    """Of a jsonb column that holds nothing but places: ``is_place``, and ``is_other``: what is no object. Never NULL."""
    place = sql.Identifier("event", column)
    return {
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
