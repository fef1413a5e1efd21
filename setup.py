"""The one step of the build that pyproject.toml cannot say: the chain of revisions goes into the package.

In a checkout it lies in ``alembic/``, beside the package, where the ``alembic`` command looks for it. Installed under
that name it would be a part of the library's own folder. An editable install has no copy: it uses the checkout.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CHAIN = Path("alembic")
PLACE = Path("backfill", "chain")
KINDS = {".py", ".mako"}


class BuildWithChain(build_py):
    """Builds the package, with ``alembic/`` at ``backfill/chain/``."""

    def run(self) -> None:
        if not self.editable_mode:
            # What an earlier build left: a revision that was renamed since would be there twice.
            shutil.rmtree(Path(self.build_lib) / "backfill", ignore_errors=True)
        super().run()
        for source, target in self._chain().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target)

    def get_source_files(self) -> list[str]:
        """Also what a source distribution has to carry."""
        return [*super().get_source_files(), *map(str, _sources())]

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        return [*super().get_outputs(include_bytecode), *self._chain().values()]

    def get_output_mapping(self) -> dict[str, str]:
        return super().get_output_mapping() | {target: source for source, target in self._chain().items()}

    def _chain(self) -> dict[str, str]:
        """``source → target``; nothing where the install is editable."""
        if self.editable_mode:
            return {}
        return {str(path): str(Path(self.build_lib) / PLACE / path.relative_to(CHAIN)) for path in _sources()}


def _sources() -> list[Path]:
    return sorted(path for path in CHAIN.rglob("*") if path.suffix in KINDS)


setup(cmdclass={"build_py": BuildWithChain})
