"""Scan: every place of a database where an address may hide, known to a plan or not."""
