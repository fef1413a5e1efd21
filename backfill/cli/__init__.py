"""Groups of commands; ``backfill.cli.main`` joins them. Thin: each calls what does the work."""
