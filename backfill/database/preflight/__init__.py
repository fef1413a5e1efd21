"""Preflight: what is in the way of a command, found in the catalog before the first write.

One module per topic, each a function from a target (or the database) to findings. ``checks`` lists them.
docs/preflight.md describes every finding.
"""
