"""Hashing: the salt, and the schemes by which text and salt become a hash."""
