"""A small application in PyPI's shape, before, during and after: docs/web.md."""
