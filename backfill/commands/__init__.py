"""Groups of commands; ``backfill.cli`` joins them. Thin: each calls what does the work."""
