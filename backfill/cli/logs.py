"""``backfill logs``: access logs with a hash in place of the client address. Needs no database."""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from backfill import escaping
from backfill.cli import context as sessions
from backfill.cli import output as streams
from backfill.engine import signals
from backfill.errors import InputUnreadable, LogLineRefused, OutputUnwritable
from backfill.geo.sources import open_geo
from backfill.plan import GeoKey
from backfill.settings import LogFormat as EventFormat
from backfill.web.access_log import LogCounts, LogFormat, LogRewriter, Unreadable, rewriter
from backfill.web.address_hashes import AddressHashes
from backfill.web.log_files import rewrite_in_place, rewrite_to
from backfill.web.log_source import LogSource

GZIP_SUFFIX = ".gz"
FORMATS = [form.value for form in LogFormat if form is not LogFormat.ANYWHERE]
LOOKED_AT = {
    LogFormat.COMBINED: "the first field of each line",
    LogFormat.COMMON: "the first field of each line",
    LogFormat.VHOST_COMBINED: "the second field of each line",
}


@click.command("logs")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write to this new file; for several FILES, into this folder.",
)
@click.option("--in-place", is_flag=True, help="Put the rewritten files in the place of FILES.")
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMATS),
    default=LogFormat.COMBINED.value,
    show_default=True,
    help="Where the client address stands. json: in the members that --member names.",
)
@click.option(
    "--member",
    "members",
    multiple=True,
    metavar="NAME",
    help="Member with the client address; a.b is member b of member a. Can be repeated.",
)
@click.option(
    "--anywhere", is_flag=True, help="Rewrite every address anywhere in a line, whatever its format."
)
@click.option(
    "--unreadable",
    type=click.Choice([one.value for one in Unreadable]),
    default=Unreadable.PASS.value,
    show_default=True,
    help="Lines without an address where one is expected: pass them on with all addresses in them hashed, drop them, "
    "or refuse the log.",
)
@click.option(
    "--country",
    is_flag=True,
    help='Add the country at the end of a line, "DE" or "-"; to JSON as member country.',
)
@sessions.weak_salt_option
@click.pass_context
def logs_command(
    context: click.Context,
    files: tuple[Path, ...],
    output: Path | None,
    in_place: bool,
    form: str,
    members: tuple[str, ...],
    anywhere: bool,
    unreadable: str,
    country: bool,
    allow_weak_salt: bool,
) -> None:
    """Rewrite access logs: the client address becomes its hash, the same as in the database.

    Reads FILES or standard input, gzip or not; writes to standard output, to files, or in place. Every other byte
    stays as it is. Counts, at the end, on standard error. Needs the salt and no database.
    """
    chosen = _format(context, form, members, anywhere, country)
    if in_place and (output is not None or not files):
        raise click.UsageError("--in-place takes FILES and no --output.")
    if len(files) > 1 and not in_place and output is None:
        raise click.UsageError("Several FILES need --output FOLDER, or --in-place.")
    session = sessions.session_of(context)
    session.allow_weak_salt = allow_weak_salt
    digest = session.salt_of_settings.hasher(session.plan.hash.scheme)
    place: Any = open_geo(session.geo_file, [GeoKey.COUNTRY_CODE]) if country else nullcontext()
    with (
        place as geo,
        signals.leaves("Each file is whole, or as it was; standard output ends with a whole block."),
    ):

        def located(address: Any) -> str | None:
            found = geo.lookup(address)
            return str(found["country_code"]) if found else None

        hashes = AddressHashes(digest, located if country else None)
        counts = LogCounts()
        for path in files or (None,):
            log = rewriter(chosen, hashes, Unreadable(unreadable), members)
            try:
                counts.add(_one(path, log, output, in_place=in_place, many=len(files) > 1))
            except LogLineRefused as error:
                raise InputUnreadable(path=path or "standard input", problem=str(error)) from error
        _tell(counts, chosen, session.settings.log_format)


def _format(
    context: click.Context, form: str, members: Sequence[str], anywhere: bool, country: bool
) -> LogFormat:
    given = context.get_parameter_source("form") is click.core.ParameterSource.COMMANDLINE
    if anywhere and (given or members or country):
        raise click.UsageError("--anywhere looks at no format: it takes no --format, --member or --country.")
    if (form == LogFormat.JSON) != bool(members) or not all(members):
        raise click.UsageError("--format json and --member belong together.")
    return LogFormat.ANYWHERE if anywhere else LogFormat(form)


def _one(
    path: Path | None, log: LogRewriter, output: Path | None, *, in_place: bool, many: bool
) -> LogCounts:
    """Rewrite one log; what was counted."""
    if in_place and path is not None:
        with _Bar(path) as bar:
            return rewrite_in_place(path, log, bar.told)
    # Python has no stream where a descriptor was closed when it began.
    if path is None and sys.stdin is None:
        raise InputUnreadable(path="standard input", problem="it is closed; name FILES, or give it a log")
    if output is None and sys.stdout is None:
        raise OutputUnwritable(what="standard", path="output", problem="it is closed; give --output")
    source = LogSource(sys.stdin.buffer, "standard input") if path is None else LogSource.opened(path)
    try:
        if output is None:
            return _to_standard_output(source, log)
        if many and not output.is_dir():
            raise OutputUnwritable(
                what="--output",
                path=output,
                problem="it is no folder, which several FILES need; make it first",
            )
        place = output / path.name if path is not None and output.is_dir() else output
        if place.is_dir():
            raise OutputUnwritable(what="--output", path=place, problem="it is a folder; name a file in it")
        # In a folder a log keeps its name, and with it what it is.
        zipped = source.gzipped if place is not output else place.suffix == GZIP_SUFFIX
        with _Bar(path) as bar:
            return rewrite_to(source, place, log, bar.told, zipped=zipped)
    finally:
        source.close()


def _to_standard_output(source: LogSource, log: LogRewriter) -> LogCounts:
    was = source.stat()
    try:
        same = was is not None and os.path.samestat(os.fstat(sys.stdout.fileno()), was)
    except (OSError, ValueError):
        same = False
    if same:
        raise OutputUnwritable(
            what="standard output,", path=source.name, problem="it is the log that is read"
        )
    for block in source.blocks():
        if not streams.stream_bytes(log.block(block)):
            break
    return log.counts


class _Bar:
    """Bytes read of a file, where somebody watches."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def __enter__(self) -> "_Bar":
        watched = self._path is not None and self._path.is_file() and sys.stderr.isatty()
        self._bar = (
            tqdm(
                total=self._path.stat().st_size,
                desc=escaping.name(self._path.name),
                unit="B",
                unit_scale=True,
                dynamic_ncols=True,
                file=escaping.unfiltered(sys.stderr),
            )
            if watched and self._path is not None
            else None
        )
        return self

    def told(self, source: LogSource) -> None:
        """After a block."""
        if self._bar is not None:
            self._bar.update(source.tell() - self._bar.n)

    def __exit__(self, *_error: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _tell(counts: LogCounts, form: LogFormat, events: EventFormat | None) -> None:
    """The last lines, on standard error: what was done, what was left, and what was looked at."""
    if events is EventFormat.JSON:
        click.echo(json.dumps({"event": "logs rewritten", **vars(counts)}), err=True)
        return
    if form is LogFormat.ANYWHERE:
        said = [
            f"{escaping.counted(counts.lines, 'line', 'lines')}: {escaping.counted(counts.addresses_anywhere, 'address', 'addresses')} "
            f"in {escaping.counted(counts.hashed, 'line', 'lines')} became hashes."
        ]
    else:
        said = [
            f"{escaping.counted(counts.lines, 'line', 'lines')}: the client address of {counts.hashed:,} became a hash, "
            f"{counts.hash_already:,} had one already, {counts.without_address.total():,} had no address there."
        ]
        said += _without(counts)
    if counts.unclear:
        said.append(
            f"{escaping.counted(counts.unclear, 'zero-padded address', 'zero-padded addresses')} became unclear-address."
        )
    if form is not LogFormat.ANYWHERE:
        looked_at = LOOKED_AT.get(form, "the members that --member names")
        said.append(
            f"Looked at for the client: {looked_at}. Outside it, "
            + escaping.counted(
                counts.left,
                "text that looks like an address was left",
                "texts that look like addresses were left",
            )
            + ("; `backfill logs --anywhere` rewrites those too." if counts.left else ".")
        )
    for line in said:
        click.echo(line, err=True)


def _without(counts: LogCounts) -> list[str]:
    if not counts.without_address:
        return []
    reasons = ", ".join(f"{reason}: {number:,}" for reason, number in counts.without_address.most_common())
    passed = counts.without_address.total() - counts.dropped
    done = f"{counts.dropped:,} dropped"
    if passed:
        done = (
            f"passed on, with a hash in place of {escaping.counted(counts.addresses_anywhere, 'address', 'addresses')} "
            "in them"
        )
    return [f"Without an address there ({reasons}): {done}."]
