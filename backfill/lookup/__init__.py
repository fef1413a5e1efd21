"""Lookup: questions about an address, before, between and after the migrations; bans by address or hash."""
