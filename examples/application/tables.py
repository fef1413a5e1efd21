"""The two tables that the application works on. No address column is in the models' SELECT: each release names its own."""

from sqlalchemy import Boolean, Column, DateTime, MetaData, Table, Text, Uuid, func
from sqlalchemy.dialects.postgresql import ENUM, INET, JSONB

metadata = MetaData()

BanReason = ENUM("authentication-attempts", name="banreason", create_type=False)

ip_addresses = Table(
    "ip_addresses",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("ip_address", INET),  # until release 2
    Column("hashed_ip_address", Text, unique=True),
    Column("geoip_info", JSONB(none_as_null=True)),  # otherwise None is JSON null, which is a value
    Column("is_banned", Boolean),
    Column("ban_reason", BanReason),
    Column("ban_date", DateTime),
)

user_events = Table(
    "user_events",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=func.gen_random_uuid()),
    Column("source_id", Uuid),
    Column("tag", Text),
    Column("ip_address_string", Text),  # in release 1 alone
    Column("ip_address_id", Uuid),
    Column("additional", JSONB(none_as_null=True)),
)
