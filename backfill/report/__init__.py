"""Coverage for people and for machines."""
