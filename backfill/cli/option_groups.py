"""Option groups: options of a command that belong together stand together in its ``--help``."""

from collections.abc import Mapping
from typing import Any

import click


class GroupedCommand(click.Command):
    """A command whose *groups* have a title and the names of their options; the others come first."""

    def __init__(self, *given: Any, groups: Mapping[str, tuple[str, ...]], **options: Any) -> None:
        super().__init__(*given, **options)
        self.groups = groups

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each group under its title."""
        grouped = {name: title for title, names in self.groups.items() for name in names}
        for title in ("Options", *self.groups):
            shown = [
                record
                for option in self.get_params(ctx)
                if grouped.get(str(option.name), "Options") == title
                and (record := option.get_help_record(ctx)) is not None
            ]
            with formatter.section(title):
                formatter.write_dl(shown)
