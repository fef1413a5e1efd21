"""A PostgreSQL of our own in a folder of our own: its binaries, its user, its files, its life."""

from backfill.embedded.server import EmbeddedServer, ServerStatus

__all__ = ["EmbeddedServer", "ServerStatus"]
