"""Those who read, each in its way, while everything else breaks."""
import os
import signal
import time

import psycopg
import pytest

import ledger as lg
from harness import (Supervisor, bench, breakable, listener, metrics,  # noqa: F401
                     pause)
from process import new_folder, wait_for
from proxy import Proxy
from readers import (ById, Claiming, Listening, Polling, Trusting, effects, end_sessions,
                     prepare, shop, stored, wait_seen)  # noqa: F401

SECONDS = float(os.environ.get("SMSHOOK_READ_SECONDS", "6"))
USAGE = "select pg_notification_queue_usage()"


@pytest.fixture
def site(bench, listener):
    """A receiver that is started whenever it ends, with a proxy before PostgreSQL."""
    prepare(bench)
    bench.proxy = Proxy(bench.cluster.folder / ".s.PGSQL.5432", new_folder(bench.folder, "p"))
    bench.configure(bench.proxy.conninfo(bench.name))
    bench.supervisor = Supervisor(bench, listener)
    yield bench
    bench.proxy.lose_every = 0
    bench.supervisor.stop()
    bench.proxy.down()


def kill_receiver(site):
    site.supervisor.restart(signal.SIGKILL)


def lose_answers(site):
    before, end = site.proxy.lost, time.monotonic() + 5
    site.proxy.lose_every = 2
    while site.proxy.lost == before and time.monotonic() < end:
        time.sleep(0.01)
    site.proxy.lose_every = 0


def end_all_sessions(site):
    for user in ("receiver", "worker"):
        end_sessions(site, user)


def restart_postgres(site):
    site.cluster.stop(signal.SIGQUIT)
    pause(0.1, 0.6)
    site.cluster.start()


def clear_spool(site):
    """What a killed receiver had begun to write is nobody's."""
    site.wait_drained()
    for name in site.spool.names("tmp"):
        (site.spool.folder / "tmp" / name).unlink()


@pytest.mark.long
def test_nothing_is_missed(site, listener):
    """A poller by id, one by sms.poll, a listener and a claimer: each sees all
    that was acknowledged; who trusts the notifications does not."""
    faults = (end_all_sessions, kill_receiver, lose_answers, restart_postgres)
    with (Polling(site.reader, "poll") as polling, Claiming(site.reader, "claim") as claiming,
          ById(site.reader) as by_id, Listening(site.reader) as listening,
          Trusting(site.reader) as trusting):
        with site.load(6, lambda: lg.Fcgi(listener.getsockname()), pause=0.03):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end:
                for fault in faults:
                    pause(0.1, 0.5)
                    fault(site)
        clear_spool(site)
        wait_seen(site, readers=[polling, claiming])
        events = stored(site)
        by_id.wait(events[-1])
        listening.wait(events[-1])
    for reader in (polling, claiming, by_id, listening, trusting):
        assert reader.sessions > 1  # it was cut off at least once
    assert site.proxy.lost and site.supervisor.codes.count(-signal.SIGKILL)
    assert len(site.check()) == len(events) > 100  # what the ledger says was sent
    assert by_id.seen == listening.seen == events
    assert effects(site, "poll") == events
    assert sorted(effects(site, "claim")) == events
    assert set(trusting.seen) < set(events)


def queue_usage(receiver):
    """As the receiver tells it: seldom, but soon after its start."""
    return wait_for("the metric", lambda: {
        name: value for name, value in metrics(receiver.address()).items()
        if name == "smshook_notify_queue_usage"})["smshook_notify_queue_usage"]


def test_a_sleeping_listener_does_not_stop_ingestion(shop):
    """It holds up the queue of notifications, which grows: a metric tells."""
    stranger = shop.cluster.conninfo(shop.name, "stranger")
    with psycopg.connect(stranger) as sleeper, shop.connect() as c:
        sleeper.execute("listen sms_event")
        sleeper.commit()
        sleeper.execute("select 1")  # and falls asleep in this transaction
        for n in range(20):  # pages of 8 kB
            c.execute("select pg_notify('other', %s)", [f"{n} " + "x" * 7000])
        used, = c.execute(USAGE).fetchone()
        assert used > 0
        r = shop.start()
        assert queue_usage(r) == pytest.approx(used)
        with shop.load(4, lambda: lg.Fcgi(r.address())):
            wait_for("many events", lambda: shop.ledger.results().get("stored", 0) > 200)
        assert set(shop.ledger.results()) == {"stored"}
        assert c.execute(USAGE).fetchone()[0] > used
        sleeper.rollback()

    def is_empty():  # it is emptied as it is written to
        shop.send(lg.Fcgi(r.address()))
        return shop.execute(USAGE) == [(0,)]
    wait_for("an empty queue", is_empty)
    assert queue_usage(shop.start()) == 0
    shop.check_all_kept()


FILLING = """select count(pg_notify('other', %s || i || repeat('x', 7900)))
	from generate_series(1, 16000) i"""


@pytest.mark.skipif("SMSHOOK_NOTIFY_FULL" not in os.environ,
                    reason="SMSHOOK_NOTIFY_FULL=1 fills the queue with 8 GB")
def test_a_full_queue_does_not_stop_ingestion(bench):
    """Nobody is notified, and all is stored; until the sleeper is awake."""
    r = bench.start()
    stranger = bench.cluster.conninfo(bench.name, "stranger")
    with psycopg.connect(stranger) as sleeper, bench.connect() as c:
        sleeper.execute("listen sms_event")
        sleeper.commit()
        sleeper.execute("select 1")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded):
            for n in range(100):
                c.execute(FILLING, [f"{n}-"])
        with bench.load(4, lambda: lg.Fcgi(r.address())):
            wait_for("many events", lambda: bench.ledger.results().get("stored", 0) > 200)
        assert set(bench.ledger.results()) == {"stored"}
        assert "nobody is notified" in r.log()
        sleeper.rollback()
    with Trusting(bench.cluster.conninfo(bench.name, "stranger")) as listener:
        def is_notified():
            bench.send(lg.Fcgi(r.address()))
            return listener.seen
        wait_for("a notification", is_notified, 60)
    bench.check_all_kept()
