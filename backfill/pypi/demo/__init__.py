"""A PyPI-shaped database with realistic, nasty data; docs/demo.md says what is in it and why."""

from backfill.pypi.demo.load import DEMO_MARK, DemoSummary, create_demo, is_demo

__all__ = ["DEMO_MARK", "DemoSummary", "create_demo", "is_demo"]
