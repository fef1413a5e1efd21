"""Whose hash a column holds, by what it is called."""

import pytest

from backfill.scan.columns import Column, Reading
from backfill.scan.hash_column import beside


@pytest.mark.parametrize(
    ("raw", "columns", "also_raw", "written", "expected"),
    [
        ("ip", ["hashed_ip"], [], [], "hashed_ip"),
        ("ip", ["ip_hash", "password_hash", "hash", "user_password_hash"], [], [], "ip_hash"),
        ("ip_address_string", ["hashed_ip_address"], [], [], "hashed_ip_address"),
        ("lastSignInIp", ["last_sign_in_ip_hash"], [], [], "last_sign_in_ip_hash"),
        ("ip", ["ip", "password_hash", "hash", "visitor_hash", "ip_text"], [], [], None),
        ("ip", ["ip_hash", "hashed_ip"], [], [], None),  # which of the two?
        ("proxy_ip", ["ip_hash"], ["ip"], [], None),  # the other one's
        ("proxy_ip", ["ip_hash", "proxy_ip_hash"], ["ip"], [], "proxy_ip_hash"),
        ("ip", ["ip_hash"], [], ["ip_hash"], None),
        ("ip", ["ip_hash"], ["ip_hash"], [], None),  # which holds addresses, whatever it is called
    ],
)
def test_a_column_is_for_the_hash_of_another_one_where_its_name_says_so(
    raw: str, columns: list[str], also_raw: list[str], written: list[str], expected: str | None
) -> None:
    column = Column("public", "logins", 1, raw, "text", Reading.TEXT, 1, 1, readable=True)
    others = [(name, "text") for name in columns] + [("number_hash", "int8")]
    assert beside(column, others, [raw, *also_raw], written) == expected
