"""Takes raw IP addresses out of a PostgreSQL database without losing what they were good for."""

__version__ = "0.1.0"
