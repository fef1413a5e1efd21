"""Proof that an erasure worked: by the catalog, by pages, by bytes; and what is outside our reach."""
