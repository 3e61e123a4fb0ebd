"""Applications that read the events: a bench with tables of theirs, crews of
processes that are killed, and readers in threads that outlive their sessions."""
import json
import random
import re
import select
import signal
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from harness import Bench
from load import Threads
from process import Process, wait_for, write

CREW = 8
IDLE = 0.02  # s between questions, when there was nothing

# What an application has: effects, of which nothing but sms.* keeps doubles
# away, and a note of each handling.  Which events fail is in app.broken.
APP = """
do $$ begin
	if not exists (select from pg_roles where rolname = 'worker') then
		create role worker login in role smshook_reader;
	end if;
end $$;
create schema app;
create table app.effect (n bigserial, consumer text not null, event_id bigint not null);
create table app.handling (n bigserial primary key, consumer text, event_id bigint, attempt int,
	leased_until timestamptz, began_at timestamptz, ended_at timestamptz);
create table app.broken (always int, at_first int);
create function app.fails(id bigint, attempt int) returns boolean language sql as $$
	select exists (select from app.broken b
		where id % b.always = 0 or id % b.at_first = 0 and attempt = 1)
$$;
grant usage on schema app to worker;
grant all on all tables in schema app to worker;
grant all on all sequences in schema app to worker;
"""


def prepare(bench):
    bench.execute(APP)
    bench.reader = bench.cluster.conninfo(bench.name, "worker")
    return bench


@pytest.fixture
def shop(programs, top, postgres, template):
    """A bench with an application, on the PostgreSQL that all share."""
    b = prepare(Bench(programs, top, postgres, postgres.create(f"template {template}")))
    yield b
    b.stop()


# ------------------------------------------------------------------ checks

def stored(bench, kind=None):
    """Ids that readers are to see, in order."""
    return [i for i, in bench.execute(
        """select id from sms.event where duplicate_of is null and (%s::text is null or kind = %s)
        order by id""", kind, kind)]


def effects(bench, consumer):
    """Ids in the order in which a consumer's effects came to be."""
    return [i for i, in bench.execute(
        "select event_id from app.effect where consumer = %s order by n", consumer)]


def wait_seen(bench, crews=(), readers=(), seconds=60):
    """No consumer has anything to see, or to do; none of these has failed."""
    def is_seen():
        for crew in crews:
            crew.check()
        for reader in readers:
            assert not reader.errors, reader.errors[0]
        (rest,), = bench.execute("select coalesce(sum(lag + leased), 0) from sms.consumer_lag")
        return rest == 0
    wait_for("the consumers", is_seen, seconds)


def end_sessions(bench, user, n=None):
    """Ends n sessions of a user, or all."""
    with bench.cluster.connect("postgres") as c:
        c.execute("""select pg_terminate_backend(s.pid) from (
            select pid from pg_stat_activity where usename = %s and datname = %s
            order by random() limit %s) s""", [user, bench.name, n])


# ------------------------------------------------------------------- crews

class Crew:
    """Processes of workers.py, one for each name in consumers; kill_every:
    seconds, on average (0: never)."""

    def __init__(self, bench, work, consumers, kill_every=0.06, conninfo=None, **more):
        script = write(bench.folder / "workers.py",
                       Path(__file__).with_name("workers.py").read_bytes())
        job = {"work": work, "consumers": consumers, "kill_every": kill_every,
               "conninfo": conninfo or bench.reader, "work_time": 0.01, **more}
        bench.crews = getattr(bench, "crews", 0) + 1
        self.process = Process([sys.executable, script, json.dumps(job)],
                               bench.folder / f"crew{bench.crews}")

    def spare(self):
        """Nobody is killed from now on."""
        self.process.send(signal.SIGUSR1)

    def check(self):
        assert self.process.running(), self.process.text()

    def stop(self):
        """How many were killed."""
        self.check()
        assert self.process.stop() == 0, self.process.text()
        return int(re.search(r"^killed (\d+)$", self.process.text(), re.M)[1])


class Ended(Threads):
    """Also when the test fails: with Reader(...) as reader."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Terminator(Ended):
    """Ends a session of the workers now and then, as an administrator does."""

    def __init__(self, bench):
        self.bench, self.stopping, self.errors = bench, threading.Event(), []
        self.threads = [threading.Thread(target=self.work)]
        self.threads[0].start()

    def work(self):
        try:
            while not self.stopping.wait(random.uniform(0.05, 0.4)):
                end_sessions(self.bench, "worker", 1)
        except Exception as e:  # told by stop(), which the test calls
            self.errors.append(e)


# ----------------------------------------------------------------- readers

class Reader(Ended):
    """Reads until its session ends, and connects again.  retried: errors after
    which it goes on in the session, without prepared statements, as behind a
    pooler; or, if it is to reconnect, after which it connects again.  seen: the ids
    in the order in which they came.  Whoever inherits has session(connection)."""

    def __init__(self, conninfo, consumer=None, retried=(), reconnects=False):
        self.conninfo, self.consumer = conninfo, consumer
        self.retried, self.reconnects = tuple(retried), reconnects
        self.seen, self.failures, self.sessions = [], [], 0
        self.stopping, self.errors = threading.Event(), []
        self.threads = [threading.Thread(target=self.work)]
        self.threads[0].start()

    def work(self):
        while not self.stopping.is_set() and not self.errors:
            try:
                self.connect()
            except psycopg.OperationalError:
                self.stopping.wait(IDLE)
            except Exception as e:  # told by stop(), which the test calls
                self.errors.append(e)

    def connect(self):
        with psycopg.connect(self.conninfo, autocommit=True,
                             prepare_threshold=5 if self.reconnects else None) as c:
            self.sessions += 1
            while not self.stopping.is_set():
                try:
                    self.session(c)
                except self.retried as e:
                    self.failures.append(e)
                    if self.reconnects:
                        return

    def wait(self, last):
        """Until it has come so far."""
        wait_for("the reader", lambda: self.errors or self.last() == last, 60)

    def last(self):
        return self.seen[-1] if self.seen else 0

    def read_on(self, c):
        """All after the last one; whether there was any."""
        rows = c.execute("""select id from sms.event where id > %s and duplicate_of is null
            order by id""", [self.last()]).fetchall()
        self.seen += [i for i, in rows]
        return bool(rows)


class ById(Reader):
    """Asks for what is after the last id."""

    def session(self, c):
        while not self.stopping.is_set():
            if not self.read_on(c):
                self.stopping.wait(IDLE)


class Polling(Reader):
    """sms.poll, an effect and sms.ack in one transaction."""

    def session(self, c):
        while not self.stopping.is_set():
            with c.transaction():
                events = c.execute("select * from sms.poll(%s)", [self.consumer]).fetchall()
                for event in events:
                    c.execute("insert into app.effect (consumer, event_id) values (%s, %s)",
                              [self.consumer, event[0]])
                if events:
                    c.execute("select sms.ack(%s, %s)", [self.consumer, events[-1][0]])
            if not events:
                self.stopping.wait(IDLE)


class Claiming(Reader):
    """sms.claim; then an effect and sms.done in one transaction."""

    def session(self, c):
        while not self.stopping.is_set():
            events = c.execute("select * from sms.claim(%s, 20, '2 s')",
                               [self.consumer]).fetchall()
            for event in events:
                with c.transaction() as work:
                    c.execute("insert into app.effect (consumer, event_id) values (%s, %s)",
                              [self.consumer, event[0]])
                    done, = c.execute("select sms.done(%s, %s)",
                                      [self.consumer, [event[0]]]).fetchone()
                    if not done:
                        raise psycopg.Rollback(work)
            if not events:
                self.stopping.wait(IDLE)


class Listening(Reader):
    """LISTEN, then reads by id: when its session begins, and when it is woken.
    It never asks without being told, so that what wakes it not would be missed."""

    def session(self, c):
        self.is_woken = True
        c.add_notify_handler(self.wake)  # also of what comes amid a statement
        c.execute("listen sms_event")
        while not self.stopping.is_set():
            if self.is_woken:
                self.is_woken = False
                self.read_on(c)
            elif select.select([c.fileno()], [], [], 0.1)[0]:
                c.pgconn.consume_input()
                while notify := c.pgconn.notifies():
                    self.wake(notify)

    def wake(self, _):
        self.is_woken = True


class Trusting(Listening):
    """Takes what the notifications say for all that there is."""

    def read_on(self, c):
        pass

    def wake(self, notify):
        text = getattr(notify, "payload", None) or notify.extra.decode()
        self.seen.append(json.loads(text)["id"])
