"""The server we talk to: engine, embedded server, block geometry, DDL under lock timeouts."""
