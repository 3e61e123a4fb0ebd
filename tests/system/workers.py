"""Processes that work on the events and are killed: readers.Crew runs this with
a JSON job.  The first process imports all, forks a worker for each consumer, kills
one of them at random again and again (kill -9), and forks another in its place.

SIGUSR1: no more kills.  SIGTERM: every worker ends after its transaction.  The
exit code is 0 when no worker ever ended by itself."""
import json
import os
import random
import signal
import sys
import time

import psycopg

FLAGS = {"kills": True, "stops": False}
IDLE = 0.03  # s between questions, when there was nothing


def doze(seconds):
    """The time that some work takes; it meets the kills."""
    time.sleep(random.uniform(0, seconds))


# ---------------------------------------------------------------- the work
# Each does one piece and returns whether there was something to do.

EFFECT = """insert into app.effect (consumer, event_id)
	select %s, e.id from unnest(%s::bigint[]) with ordinality as e(id, n) order by e.n"""


def poll(c, job, consumer):
    """Work and place in one transaction."""
    with c.transaction():
        ids = [i for i, in c.execute("select id from sms.poll(%s, %s, %s)",
                                     [consumer, random.randint(1, 40), job.get("kinds")])]
        if ids:
            c.execute(EFFECT, [consumer, ids])
            doze(job["work_time"])
            c.execute("select sms.ack(%s, %s)", [consumer, ids[-1]])
    return bool(ids)


def poll_carelessly(c, job, consumer):
    """Work and place in two transactions."""
    with c.transaction():
        ids = [i for i, in c.execute("select id from sms.poll(%s, %s)", [consumer, 10])]
        if ids:
            c.execute(EFFECT, [consumer, ids])
    doze(job["work_time"])
    if ids:
        c.execute("select sms.ack(%s, %s)", [consumer, ids[-1]])
    return bool(ids)


def claim(c, job, consumer):
    """Claims some, and for each notes when its handling began and ended."""
    claimed = c.execute("select id, attempt, leased_until from sms.claim(%s, %s, %s, null, %s)",
                        [consumer, random.randint(1, 4), job["lease"],
                         job["max_attempts"]]).fetchall()
    for id_, attempt, leased_until in claimed:
        n, = c.execute("""insert into app.handling (consumer, event_id, attempt, leased_until,
            began_at) values (%s, %s, %s, %s, clock_timestamp()) returning n""",
                       [consumer, id_, attempt, leased_until]).fetchone()
        doze(job["work_time"] if random.random() > job.get("late", 0) else job["late_time"])
        fails, = c.execute("select app.fails(%s, %s)", [id_, attempt]).fetchone()
        with c.transaction() as work:
            c.execute("update app.handling set ended_at = clock_timestamp() where n = %s", [n])
            if fails:
                c.execute("select sms.fail(%s, %s, %s, '20 ms', %s)",
                          [consumer, id_, f"no luck, attempt {attempt}", attempt])
            else:
                c.execute(EFFECT, [consumer, [id_]])
                done, = c.execute("select sms.done(%s, %s)", [consumer, [id_]]).fetchone()
                if not done:  # somebody else has it
                    raise psycopg.Rollback(work)
    return bool(claimed)


# ----------------------------------------------------------- the processes

def connect(conninfo):
    """Without prepared statements, which would be another session's of a pooler."""
    return psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)


def work(job, i):
    """One worker: goes on when its session is ended."""
    do = {"poll": poll, "poll carelessly": poll_carelessly, "claim": claim}[job["work"]]
    while not FLAGS["stops"]:
        try:
            with connect(job["conninfo"]) as c:
                while not FLAGS["stops"]:
                    if not do(c, job, job["consumers"][i]):
                        time.sleep(IDLE)
        except psycopg.OperationalError:
            time.sleep(IDLE)


def fork(job, i):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        random.seed()
        work(job, i)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def reap(workers, killed, options=os.WNOHANG):
    """Which of them have ended, as others than those that were killed must not."""
    while workers:
        pid, status = os.waitpid(-1, options)
        if not pid:
            return
        workers.pop(pid)
        code = os.waitstatus_to_exitcode(status)
        if code != 0 and not (code == -signal.SIGKILL and pid in killed):
            sys.exit(f"a worker ended with {code}")
        if code == 0 and not FLAGS["stops"]:
            sys.exit("a worker ended by itself")


def main(job):
    workers, killed = {}, set()  # {pid: number}
    signal.signal(signal.SIGUSR1, lambda *_: FLAGS.update(kills=False))
    signal.signal(signal.SIGTERM, lambda *_: FLAGS.update(kills=False, stops=True))
    while not FLAGS["stops"]:
        for i in set(range(len(job["consumers"]))) - set(workers.values()):
            workers[fork(job, i)] = i
        time.sleep(random.uniform(0.01, 2 * job["kill_every"]))
        if FLAGS["kills"] and job["kill_every"]:
            pid = random.choice(list(workers))
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        reap(workers, killed)
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    reap(workers, killed, 0)
    print(f"killed {len(killed)}", flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
