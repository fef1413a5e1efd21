"""What the server and its other users do meanwhile: locks, rewrites, full disks, old snapshots."""

import re
import time
from contextlib import closing

import pytest

from tests.databases import connect
from tests.faults.conftest import SMALL


def test_lock_table_by_an_operator_is_waited_for_and_explained(stage, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "5")
    stage.until_linking()
    with closing(connect(stage.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute("set application_name = 'a deploy'")
        cursor.execute("lock table project_events in access exclusive mode")
        stage.until("(select coalesce((retries ->> 'table-locked')::int, 0) > 0 from backfill.runs)")
        waiting = stage.status()["waiting"]
        assert "a deploy" in waiting or "table-locked" in waiting
        other.rollback()
    assert command.end() == 0, command.said
    assert "halved" not in command.said
    same_as_undisturbed(stage)


def test_a_row_that_stays_locked_is_left_alone_in_its_block_and_the_run_fails(stage, same_as_undisturbed):
    with closing(connect(stage.url, autocommit=False)) as other, other.cursor() as cursor:
        cursor.execute(
            """select ctid::text from team_events
                where ip_address_string = (select host(ip_address) from ip_addresses
                                            where host(ip_address) in (select ip_address_string from team_events
                                                                        where ip_address_id is null) limit 1)
                  and ip_address_id is null limit 1 for update"""
        )
        ((ctid,),) = cursor.fetchall()
        said = stage.call("run", "--quiet", *SMALL, expect=1, timeout_seconds="0.3")
        other.rollback()
    block = int(ctid.strip("()").split(",")[0])
    failed = stage.query(
        "select distinct first_block, last_block, left(error, 4) from backfill.batches where status = 'failed'"
    )
    assert [(block, block + 1)] == [row[:2] for row in failed]
    assert failed[0][2] in ("lock", "stat")  # lock-timeout or statement-timeout, in the sweep as well
    assert "halved" in said
    assert f"team_events blocks {block} to {block + 1}" in said
    assert stage.value("select status from backfill.runs") == "failed"
    assert "it failed" in stage.status()["waiting"]
    unlinked = stage.value(
        """select count(*) from user_events join backfill.address_map on raw = ip_address_string
            where ip_address_id is null and address_id is not null"""
    )
    assert unlinked == 0  # the run went on with all others
    stage.run(*SMALL)
    same_as_undisturbed(stage)


def test_vacuum_full_in_the_middle_moves_every_block(stage, same_as_undisturbed):
    command = stage.start("run", "--quiet", *SMALL, "--nice", "5")
    stage.until_linking()
    with closing(connect(stage.url)) as other, other.cursor() as cursor:
        for table in ("user_events", "project_events"):
            cursor.execute(f"vacuum full {table}")
    assert command.end() == 0, command.said
    assert "planning its blocks again" in command.said
    same_as_undisturbed(stage)


def test_a_session_with_an_old_snapshot_makes_it_one_pass_and_is_named(stage, same_as_undisturbed):
    with closing(connect(stage.url, autocommit=False)) as other, other.cursor() as cursor:
        other.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("set application_name = 'a long report'")
        cursor.execute("select count(*) from user_events")
        time.sleep(1.2)
        command = stage.start("run", "--quiet", *SMALL, "--nice", "3", snapshot_seconds="1")
        stage.until_linking()
        assert "a long report" in stage.status()["pinned"]
        assert command.end() == 0, command.said
        other.rollback()
    passes = stage.query("select distinct passes from backfill.batches where phase = 'link'")
    assert passes == [(1,)]
    same_as_undisturbed(stage)


def test_a_server_that_becomes_read_only_is_waited_for(stage, primary, same_as_undisturbed):
    """As a primary does that steps down: its sessions stay, and every write of theirs is refused."""
    command = stage.start("run", "--quiet", *SMALL, "--nice", "5")
    stage.until_linking()
    with closing(connect(primary.url())) as other, other.cursor() as cursor:
        cursor.execute("set default_transaction_read_only = off")
        cursor.execute("alter system set default_transaction_read_only = on")
        cursor.execute("select pg_reload_conf()")
        try:
            stage.until_true(lambda: "read-only; waiting for it" in command.said, "it says that it waits")
            written = stage.value("select sum(written) from backfill.batches")
            time.sleep(1.5)
            assert stage.value("select sum(written) from backfill.batches") == written
            assert command.process.poll() is None
        finally:
            cursor.execute("alter system reset default_transaction_read_only")
            cursor.execute("select pg_reload_conf()")
    assert command.end() == 0, command.said
    assert stage.value("select attempts from backfill.runs") == 1
    same_as_undisturbed(stage)


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_its_error_class_and_it_resumes_when_there_is_room(
    stage, primary, same_as_undisturbed
):
    """RLIMIT_FSIZE on the server: no file grows beyond a size that the heap has nearly reached."""
    size = int(stage.value("select pg_relation_size('user_events')"))
    primary.end()
    primary.start(limit_bytes=max(size + 64 * 1024, 1100 * 1024))
    said = stage.call("run", "--quiet", *SMALL, "--nice", "1", expect=1, passes="1")
    assert re.search(r"53100|58030|XX000|54000", said), said  # too large a file has no code of its own
    assert stage.value("select status from backfill.runs") == "failed"
    primary.end()
    primary.start()
    stage.run(*SMALL)
    same_as_undisturbed(stage)


def test_out_of_resources_ends_the_run_at_once_instead_of_failing_every_other_batch(
    stage, same_as_undisturbed
):
    """The server's own code for a full disk, raised by a trigger: what comes next would meet it as well."""
    stage.query(
        """create function full_disk() returns trigger language plpgsql as $$ begin
               raise exception 'could not extend file' using errcode = '53100'; end $$;
           create trigger full_disk before update on project_events for each row execute function full_disk()"""
    )
    accepted = ("--accept", "before-trigger:public.project_events.full_disk")
    said = stage.call("run", "--quiet", *SMALL, *accepted, "--workers", "1", expect=1)
    assert "53100: disk full" in said
    failed = stage.value("select count(*) from backfill.batches where status = 'failed'")
    assert failed in (1, 2), (
        "one more may have been handed to the worker before the driver heard of the first"
    )
    assert "53100" in stage.status()["error"]
    left = "select count(*) from backfill.batches where status = 'pending' and job = 'public.project_events.ip_address_string'"
    assert stage.value(left) > 0
    stage.query("drop trigger full_disk on project_events")
    stage.run(*SMALL)
    same_as_undisturbed(stage)


def test_a_deadlock_and_a_serialization_failure_are_retried_and_counted(stage, same_as_undisturbed):
    """Made to happen by a trigger that raises them, once each; nothing else is retried."""
    stage.query(
        """create sequence troubles;
           create function trouble() returns trigger language plpgsql as $$ begin
               case nextval('troubles') when 5 then raise exception using errcode = '40P01';
                                        when 1 then raise exception using errcode = '40001';
                                        else null; end case;
               return new; end $$;
           create trigger trouble before update on team_events for each row execute function trouble()"""
    )
    stage.run(*SMALL, "--accept", "before-trigger:public.team_events.trouble")
    retries = stage.status()["retries"]
    assert retries == {"deadlock": 1, "serialization-failure": 1}
    assert stage.value("select sum(retries) from backfill.batches") == 2
    same_as_undisturbed(stage)


def test_an_error_that_would_come_again_is_not_retried(stage):
    stage.query(
        """create function trouble() returns trigger language plpgsql as $$ begin
               raise exception 'no %', new.ip_address_string; end $$;
           create trigger trouble before update on team_events for each row execute function trouble()"""
    )
    accepted = ("--accept", "before-trigger:public.team_events.trouble")
    said = stage.call("run", "--quiet", *SMALL, *accepted, expect=1)
    assert stage.value("select sum(retries) from backfill.batches") == 0
    ((error,),) = stage.query("select distinct error from backfill.batches where status = 'failed'")
    assert error == "P0001: raise exception"
    assert "P0001" in said
