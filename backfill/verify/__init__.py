"""Coverage: what the data itself says, by another road than the one that wrote it."""
