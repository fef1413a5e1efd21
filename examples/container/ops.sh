#!/usr/bin/env bash
# Run once by the image of PostgreSQL: the role and the database that Backfill is tried on.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" <<'SQL'
\getenv password POSTGRES_PASSWORD
create role ops login password :'password';
create database app owner ops;
SQL
