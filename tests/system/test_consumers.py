"""sms.poll and sms.ack: an event's effect is there once, whoever is killed."""
import os
import threading
import time

import psycopg
import pytest

import ledger as lg
from drivers import Fcgi, post
from load import at_once, sms
from process import write
from readers import (CREW, Crew, Terminator, effects, shop, stored,  # noqa: F401
                     wait_seen)
from test_faults_database import Pgbouncer

SECONDS = float(os.environ.get("SMSHOOK_WORK_SECONDS", "6"))


@pytest.mark.long
def test_each_effect_is_there_once(shop):
    """Eight workers of three consumers are killed, and their sessions ended."""
    r = shop.start()
    all_kinds = Crew(shop, "poll", ["accounts", "helpdesk", "helpdesk", "helpdesk", "archive"])
    incoming = Crew(shop, "poll", ["replies"] * (CREW - 5), kinds=["incoming_sms"])
    with Terminator(shop), shop.load(3, lambda: lg.Fcgi(r.address()), pause=0.01):
        time.sleep(SECONDS)
    wait_seen(shop, [all_kinds, incoming])
    assert all_kinds.stop() + incoming.stop() > 10
    shop.check_all_kept()
    events = stored(shop)
    assert len(events) > 100
    for consumer in ("accounts", "helpdesk", "archive"):
        assert effects(shop, consumer) == events, consumer
    assert effects(shop, "replies") == stored(shop, "incoming_sms")


def test_a_careless_consumer_has_effects_twice(shop):
    """The proof that the test above can fail: work and place by themselves."""
    r = shop.start()
    crew = Crew(shop, "poll carelessly", ["careless"] * CREW)
    with shop.load(2, lambda: lg.Fcgi(r.address())):
        time.sleep(1)
    wait_seen(shop, [crew])
    crew.stop()
    assert set(effects(shop, "careless")) == set(stored(shop))
    assert len(effects(shop, "careless")) > len(stored(shop))


# -------------------------------------------------------------- take_reply

TAKE = "select body from sms.take_reply('+49 151 12345678', 'verify', now() - interval '1 hour', '2 hours')"


def take(conninfo, barrier, commits):
    """What one who waits for the reply has in the end."""
    with psycopg.connect(conninfo) as c:
        c.execute("select 1")
        barrier.wait()
        rows = c.execute(TAKE).fetchall()
        if not commits:
            c.rollback()
            return []
    return rows


def test_a_reply_is_taken_once(shop):
    """By one of many who ask at once, although some that had it roll back."""
    r = shop.start()
    for n, gives_up in ((1, ()), (2, range(0, CREW, 2)), (3, range(CREW - 1))):
        for text in (f"Verify: {n}", f"other {n}"):
            assert Fcgi(r.address()).send(post(shop.token, sms(text))).status == 200
        barrier = threading.Barrier(CREW)
        taken = at_once(lambda i: take(shop.reader, barrier, i not in gives_up), range(CREW))
        assert [row for rows in taken for row in rows] == [(f"Verify: {n}",)]
    with psycopg.connect(shop.reader) as c:
        assert c.execute(TAKE).fetchall() == []


# --------------------------------------------------------------- pgbouncer

class Pool(Pgbouncer):
    """For readers, with four sessions that change hands after each transaction."""

    def start(self):
        write(self.folder / "users", '"worker" ""\n')
        write(self.ini, self.ini.read_text().replace("default_pool_size = 1",
                                                     "default_pool_size = 4"))
        super().start()

    def conninfo(self, name):
        return f"host={self.folder} dbname={name} user=worker"


@pytest.fixture
def pool(shop):
    p = Pool(shop)
    yield p
    p.stop()


def ids(cursor):
    return [row[0] for row in cursor.fetchall()]


def test_through_pgbouncer(shop, pool):
    """Each call and each transaction meets another session."""
    r = shop.start()
    for n in range(6):
        assert Fcgi(r.address()).send(post(shop.token, sms(f"verify {n}"))).status == 200
    first, *_, last = stored(shop)
    with (psycopg.connect(pool.conninfo(shop.name), prepare_threshold=None) as a,
          psycopg.connect(pool.conninfo(shop.name), prepare_threshold=None) as b):
        # poll: one at a time, and again when the first has rolled back
        assert ids(a.execute("select id from sms.poll('mail', 2)")) == stored(shop)[:2]
        assert ids(b.execute("select id from sms.poll('mail', 2)")) == []
        a.rollback()
        b.commit()
        assert ids(b.execute("select id from sms.poll('mail')")) == stored(shop)
        assert b.execute("select sms.ack('mail', %s)", [first]).fetchone() == (first,)
        b.commit()
        assert ids(a.execute("select id from sms.poll('mail')")) == stored(shop)[1:]
        assert ids(b.execute("select id from sms.poll('mail')")) == []
        assert a.execute("select sms.ack('mail', %s)", [last]).fetchone() == (last,)
        a.commit()
        b.commit()
        assert ids(b.execute("select id from sms.poll('mail')")) == []
        b.commit()
        # claim: others meanwhile; done, fail and a dead letter
        claimed = "select id from sms.claim('work', 3, '1 hour', null, 1)"
        assert ids(a.execute(claimed)) == stored(shop)[:3]
        a.commit()
        assert ids(b.execute(claimed)) == stored(shop)[3:]
        b.commit()
        assert a.execute("select sms.done('work', %s)", [stored(shop)[1:]]).fetchone() == (5,)
        a.commit()
        assert b.execute("select sms.fail('work', %s, 'as told')", [first]).fetchone() == (None,)
        b.commit()
        assert a.execute("select event_id, attempts, reason from sms.dead_letter").fetchall() == [
            (first, 1, "as told")]
        assert a.execute("select sms.retry('work')").fetchone() == (1,)
        a.commit()
        assert ids(b.execute(claimed)) == [first]
        b.commit()
        for n in range(6):
            assert ids(a.execute(TAKE)) == [f"verify {n}"]
            a.commit()
        assert ids(b.execute(TAKE)) == []
        b.commit()
        assert a.execute("""select consumer, lag, leased from sms.consumer_lag
            order by consumer""").fetchall() == [("mail", 0, 0), ("work", 0, 1)]


@pytest.mark.long
def test_crews_through_pgbouncer(shop, pool):
    """More workers than sessions, killed at random."""
    r = shop.start()
    crews = [Crew(shop, "poll", ["mail"] * 3, conninfo=pool.conninfo(shop.name)),
             Crew(shop, "claim", ["work"] * 3, conninfo=pool.conninfo(shop.name),
                  lease="500 ms", max_attempts=100)]
    with shop.load(2, lambda: lg.Fcgi(r.address()), pause=0.02):
        time.sleep(min(SECONDS / 3, 5))
    wait_seen(shop, crews)
    for crew in crews:
        crew.stop()
    assert effects(shop, "mail") == stored(shop)
    assert sorted(effects(shop, "work")) == stored(shop)
