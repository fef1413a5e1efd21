"""The live application while we work: inserts events, upserts addresses, overwrites hash and geo."""

import random
import threading
import time
import uuid
from collections.abc import Callable

import psycopg2

from backfill.hashing.salt import Salt
from backfill.hashing.sha256 import SHA256_SUFFIX
from tests.databases import connect
from tests.faults.stage import SALT, Stage

UPSERT = """
    insert into ip_addresses (ip_address, hashed_ip_address, geoip_info) values (%s, %s, %s)
    on conflict (ip_address) do update
       set hashed_ip_address = excluded.hashed_ip_address, geoip_info = excluded.geoip_info
    returning id
"""
INSERT = """
    insert into user_events (id, source_id, tag, ip_address_string, ip_address_id)
    values (%s, (select id from users limit 1), 'live', %s, %s)
"""


class Live:
    """Each request: an upsert of an address that is in the events, and an event with or without the link."""

    def __init__(self, stage: Stage, rate: float = 0.0) -> None:
        self.stage, self.rate = stage, rate
        self.hash = Salt(SALT, source="tests").hasher(SHA256_SUFFIX.name)
        self.linked: dict[str, str] = {}  # event → address row, as the live application wrote it
        self.unlinked: list[str] = []
        self.deadlocks = 0
        self.collisions = 0
        self.errors: list[str] = []

    def work(self, seed: int = 1) -> Callable[[threading.Event], None]:
        """For ``in_background``: hammer until told to end, whatever happens to the server."""

        def hammer(done: threading.Event) -> None:
            chance = random.Random(seed)
            while not done.is_set():
                try:
                    self._session(done, chance)
                except psycopg2.InterfaceError:
                    pass
                except psycopg2.DatabaseError as error:
                    # A server that is killed mid-answer gives a plain DatabaseError without a code.
                    if error.pgcode is not None and not isinstance(error, psycopg2.OperationalError):
                        raise
                time.sleep(0.05)

        return hammer

    def _session(self, done: threading.Event, chance: random.Random) -> None:
        connection = connect(self.stage.url, autocommit=False)
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    r"select distinct host(ip_address_string::inet) from user_events"
                    r" where ip_address_string ~ '^[1-9]\d*(\.[1-9]\d*){3}$' limit 200"
                )
                texts = [text for (text,) in cursor.fetchall()]
                connection.commit()
                while not done.is_set():
                    self._request(connection, cursor, chance, texts)
                    time.sleep(self.rate)
        finally:
            connection.close()

    def _request(self, connection, cursor, chance: random.Random, texts: list[str]) -> None:
        text, event = chance.choice(texts), str(uuid.uuid4())
        with_link = chance.random() < 0.5
        geo = '{"city": "Liveville", "country_code": "XX"}' if chance.random() < 0.3 else None
        try:
            cursor.execute(UPSERT, (text, self.hash(text), geo))
            ((address,),) = cursor.fetchall()
            cursor.execute(INSERT, (event, text, address if with_link else None))
            connection.commit()
        except psycopg2.errors.DeadlockDetected:
            self.deadlocks += 1
            connection.rollback()
        except psycopg2.errors.UniqueViolation:
            # Of the hash, which is no arbiter of this upsert: whoever inserts the same new address in the same
            # moment, another request or we, makes it fail, and it is sent again.
            self.collisions += 1
            connection.rollback()
        else:
            if with_link:
                self.linked[event] = address
            else:
                self.unlinked.append(event)
