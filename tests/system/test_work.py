"""sms.claim, sms.done and sms.fail: every event is worked on until it is done,
by one worker at a time, whoever is killed."""
import os
import time

import psycopg
import pytest

import ledger as lg
from process import wait_for
from readers import CREW, Crew, Terminator, effects, shop, stored, wait_seen  # noqa: F401

SECONDS = float(os.environ.get("SMSHOOK_WORK_SECONDS", "6"))
ALWAYS, AT_FIRST = 13, 5  # each so-many'th event fails
ATTEMPTS = 5
LEASE = "400 ms"

# A lease was granted while an earlier one of the same event still ran, and was
# neither done nor given back.
AT_ONCE = """
with h as (
	select h.*, leased_until - %s::interval as leased_at from app.handling h
)
select a.event_id, a.attempt, a.leased_at, a.leased_until, a.ended_at, b.attempt, b.leased_at
from h a join h b on b.consumer = a.consumer and b.event_id = a.event_id and b.n <> a.n
	and b.leased_at >= a.leased_at
where b.leased_at < a.leased_until and b.leased_at < coalesce(a.ended_at, 'infinity')
"""


def dead_letters(bench):
    """{id: (attempts, reason)}."""
    return {i: (attempts, reason) for i, attempts, reason in bench.execute(
        "select event_id, attempts, reason from sms.dead_letter where consumer = 'work'")}


def check_dead_letters(bench):
    """What always fails is there; else what was in the hands of the killed."""
    dead, events = dead_letters(bench), stored(bench)
    assert {i for i in events if i % ALWAYS == 0} <= set(dead)
    for id_, (attempts, reason) in dead.items():
        assert attempts == ATTEMPTS
        assert reason.startswith("no luck, attempt ") or "lease ended" in reason
        assert id_ % ALWAYS == 0 or id_ in events
    assert set(effects(bench, "work")) == set(events) - set(dead)
    return dead


@pytest.mark.long
def test_claimed_work(shop):
    r = shop.start()
    shop.execute("insert into app.broken values (%s, %s)", ALWAYS, AT_FIRST)
    crew = Crew(shop, "claim", ["work"] * CREW, lease=LEASE, max_attempts=ATTEMPTS,
                work_time=0.005, late=0.03, late_time=1)  # s: some outlast their lease
    with Terminator(shop), shop.load(2, lambda: lg.Fcgi(r.address()), pause=0.02):
        time.sleep(SECONDS)
    wait_seen(shop, [crew])  # nothing is stuck in a lease
    assert shop.execute("select count(*) from sms.lease") == [(0,)]
    shop.check_all_kept()
    dead = check_dead_letters(shop)
    assert len(dead) > 5

    # Mended, and brought back: at work there are still those who are killed.
    shop.execute("delete from app.broken")
    assert shop.execute("select sms.retry('work')") == [(len(dead),)]
    wait_for("the dead letters", lambda: not shop.execute(
        "select 1 from sms.lease union all select 1 from sms.dead_letter"), 60)
    assert crew.stop() > 10

    events = stored(shop)
    assert len(events) > 100
    assert sorted(effects(shop, "work")) == events  # each is there, and once
    assert shop.execute(AT_ONCE, LEASE) == []
    again, = shop.execute("""select count(*) from (select from app.handling
        where event_id %% %s <> 0 and event_id %% %s <> 0
        group by event_id having count(*) > 1) x""", ALWAYS, AT_FIRST)[0]
    assert again > 0  # of those that were killed
    assert shop.execute("""select event_id from app.handling where event_id %% %s = 0
        group by event_id having max(attempt) = 1 and count(*) = 1""", AT_FIRST) == []


def test_work_without_leases_is_done_at_once(shop):
    """The proof that the test above can fail: everyone has every lease."""
    source, = shop.execute("select pg_get_functiondef('sms.claim'::regproc)")[0]
    call = "l.due_at <= claimed_at"
    assert source.count(call) == 1
    shop.execute(source.replace(call, "true"))
    r = shop.start()
    crew = Crew(shop, "claim", ["work"] * CREW, kill_every=0, lease="10 s", max_attempts=1000)
    with shop.load(2, lambda: lg.Fcgi(r.address()), pause=0.02):
        wait_for("two at once", lambda: shop.execute(AT_ONCE, "10 s"))
    wait_seen(shop, [crew])
    crew.stop()
    # sms.done in the transaction of the work holds even then.
    assert sorted(effects(shop, "work")) == stored(shop)


def test_a_late_worker_leaves_the_next_one_alone(shop):
    """Its lease has ended, and the event is another's: no effect is there twice."""
    r = shop.start()
    shop.send(lg.Fcgi(r.address()))
    claim = "select id, attempt from sms.claim('work', 1, %s)"
    with psycopg.connect(shop.reader) as late, psycopg.connect(shop.reader) as next_one:
        (id_, attempt), = late.execute(claim, ["1 ms"])
        late.commit()
        wait_for("the next lease", lambda: next_one.execute(claim, ["1 hour"]).fetchall())
        next_one.commit()
        assert late.execute("select sms.fail('work', %s, 'late', '0', %s)",
                            [id_, attempt]).fetchone() == (None,)
        late.commit()
        assert late.execute(claim, ["1 ms"]).fetchall() == []
        late.commit()
        assert late.execute("select sms.done('work', %s)", [[id_]]).fetchone() == (1,)
        late.commit()
        assert next_one.execute("select sms.done('work', %s)", [[id_]]).fetchone() == (0,)
