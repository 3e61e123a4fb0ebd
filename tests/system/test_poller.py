"""Ids are in commit order: who asks `WHERE id > :last ORDER BY id` misses none."""
import itertools
import os
import threading
import time

import pytest

import receiver as rx
from drivers import Cgi, post
from load import Kept, Load, sms

SECONDS = float(os.environ.get("SMSHOOK_POLL_SECONDS", "5"))


class Poller:
    """Asks as fast as it can, and notes every id that it sees."""

    def __init__(self, database):
        self.database, self.seen, self.last = database, [], 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        with self.database.postgres.connect(self.database.name) as c:
            done = False
            while not done:
                done = self.stopping.is_set()  # and one time more
                rows = c.execute("select id from sms.event where id > %s order by id",
                                 [self.last]).fetchall()
                self.seen += [id_ for id_, in rows]
                self.last = self.seen[-1] if self.seen else 0

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.seen


class CgiLoop:
    """One process a request, again and again."""

    def __init__(self, program, config, log):
        self.cgi = Cgi(program, config, log)

    def send(self, request):
        return self.cgi.send(request)


def write_and_poll(start, programs, top, database, until):
    """Four receivers under load and four loops of CGI, until until(time, missed)
    says so: ids that were stored, and ids that the poller saw."""
    token = rx.new_token()
    text = rx.config_text(database.writer, {"x": f"token = {token}"},
                          server="request_timeout = 60s", database="timeout = 50s")
    receivers = [start(text) for _ in range(4)]
    config = rx.write_config(top, text)
    log = receivers[0].log
    poller = Poller(database)
    loads = [Load(4, token, lambda r=r: Kept(r.address())) for r in receivers]
    cgi_log = receivers[0].folder / "cgi.log"
    cgi_log.touch()
    loads.append(Load(4, token, lambda: CgiLoop(programs / "smshook.fcgi", config, cgi_log)))
    begun = time.monotonic()
    while not until(time.monotonic() - begun, database, poller):
        time.sleep(0.2)
    answers = list(itertools.chain(*(load.stop() for load in loads)))
    seen = poller.stop()
    assert {a.status for _, a in answers} == {200}, log()
    stored = [row["id"] for row in database.rows("select id from sms.event order by id")]
    assert len(stored) == len(answers)
    return stored, seen


@pytest.mark.long
def test_no_row_is_missed(start, programs, top, new_database):
    stored, seen = write_and_poll(start, programs, top, new_database(),
                                  lambda seconds, *_: seconds > SECONDS)
    assert len(stored) > 100
    assert seen == stored


@pytest.mark.long
def test_without_the_lock_rows_are_missed(start, programs, top, new_database):
    """The proof that the test above can fail: sms.ingest without its lock."""
    database = new_database()
    source = database.value("""select pg_get_functiondef(oid) from pg_proc
        where proname = 'ingest' and pronamespace = 'sms'::regnamespace""")
    call = "ok := pg_advisory_xact_lock("
    assert source.count(call) == 1
    database.connection.execute(source.replace(call, "ok := ("))

    def until(seconds, database, poller):
        rows = database.value("select count(*) from sms.event where id <= %s", poller.last)
        return rows > len(poller.seen) + 20 or seconds > 12 * SECONDS
    stored, seen = write_and_poll(start, programs, top, database, until)
    assert len(set(stored) - set(seen)) > 0
