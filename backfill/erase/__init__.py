"""Erasure: what a drop left on disk is rewritten away, table by table, on record."""
