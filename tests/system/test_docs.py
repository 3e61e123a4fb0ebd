"""Every block of code in docs/, and of the README's SQL, run as it stands."""
import dataclasses
import hashlib
import http.server
import json
import re
import threading

import pytest

import postgres as pg
import receiver as rx
from drivers import Fcgi, post
from pages import DOCS, USER, Browser, Page, blocks, incoming, is_shown, open_page, status
from process import Process, new_folder, run, tool, wait_for, write
from servers import SOURCE, Nginx, free_port

PAGES = sorted(path.name for path in DOCS.glob("*.md"))
LINK = re.compile(r"\]\(([^)#:]+)\)")


def page_of_test(request):
    """The page that the test is named after."""
    name = request.function.__name__.removeprefix("test_page_")
    return DOCS / (name.replace("_", "-") + ".md")


@pytest.fixture
def page(request, postgres, new_database, start, token, top):
    p = open_page(page_of_test(request), postgres, new_database().name, start, token, top)
    yield p
    p.stop()


@pytest.fixture
def page_alone(request, own_postgres, start, token, top):
    """With a PostgreSQL of its own, which is stopped."""
    p = open_page(page_of_test(request), own_postgres, own_postgres.name, start, token, top)
    yield p
    p.stop()


# ---------------------------------------------------------------- the pages

def test_page_delivery_status(page):
    page.post(status("abc123", "queued", "2026-01-15T10:29:57Z"),
              status("abc123", "delivered"),
              status("def456", "failed", "2026-01-15T10:30:05Z"),
              status("abc123", "sent", "2026-01-15T10:29:58Z"),  # late
              status("abc123", "delivered"))                     # twice
    page.sql()
    page.sql()
    page.sql()
    if page.can_run("php"):
        browser = Browser(page.website("status.php"))
        assert browser.open("?id=abc123") == {"status": "delivered",
                                              "occurred_at": "2026-01-15 10:30:00+00"}
        assert browser.open("?id=ghi789") == browser.open("?id='") == {"status": "waiting"}
    page.enter()
    page.post(status("ghi789", "sent"))
    page.notified()

    if page.can_run("js"):
        poll_never(page)
        check_waits_for_status(page)
    page.finish()


def test_page_signatures(page, top):
    """Through nginx, with the tokens of the test in place of the page's digests."""
    made = run(["sh", "-e", "-c", page.take("sh").text]).stdout.decode()
    tokens = {name: rx.new_token() for name in ("relay", "script")}
    text = page.take("ini").text
    for token, old in zip(tokens.values(), re.findall(r"token_sha256 = (\w{64})", text)):
        text = text.replace(old, hashlib.sha256(token.encode()).hexdigest())
    keys = re.findall(r"signature_key = (\S+)", text)
    if tool("openssl"):
        assert re.fullmatch(r"whsec_[\w+/]{43}=\n", made)
    page.receiver.reload(page.receiver.config.read_text() + text)
    server = Nginx(top, page.receiver.socket)
    try:
        base = f"http://127.0.0.1:{server.port}/smshook/"
        assert Fcgi(page.receiver.address()).send(post(tokens["script"], b"{}")).status == 401
        if tool("openssl") and tool("curl"):
            done = run(["sh", "-e", "-c", page.take("sh").text], env={
                "PATH": "/usr/bin:/bin", "no_proxy": "*", "KEY": keys[1],
                "URL": base + tokens["script"]})
            page.shows(done.stdout.decode())
        else:
            page.take("sh"), page.take("text")
            page.missing.append("openssl and curl")
        command, folder = page.write_program("python")
        body = write(folder / "body", json.dumps(incoming("+1234567890", "by a relay")))
        page.shows(page.start(["sh", "-c", '"$0" "$1" <"$2"', *command, body], folder,
                              KEY=keys[0], URL=base + tokens["relay"]).finish())
    finally:
        server.stop()
    page.sql()
    assert page.execute("select body from sms.event where source = 'relay'") == [("by a relay",)]
    page.finish()


SLEEPS = {"python": ("[], [], 30)", "[], [], {})"), "js": ("sleep(30_000", "sleep(1000 * {}")}


def poll_each(page, seconds):
    """The next program, instead of each 30 s."""
    old, new = SLEEPS[page.left[0].language]
    page.edit(old, new.format(seconds))


def poll_never(page):
    """A notification has to wake it, or it misses what it waits for."""
    poll_each(page, 100000)


def check_waits_for_status(page):
    command, folder = page.write_program("js")
    done = page.start([*command, "abc123"], folder)
    assert done.finish() == "delivered\n"
    waiting = page.start([*command, "jkl012"], folder)
    waiting.wait_shown("waiting")
    page.post(status("jkl012", "sent"), status("mno345", "failed"))
    waiting.wait_shown("sent")
    end_sessions(page)
    waiting.wait_shown("trying again")
    page.execute("notify sms_event, 'not of smshook'")
    page.post(status("jkl012", "delivered", "2026-01-15T10:31:00Z"))
    assert waiting.finish().endswith("delivered\n")


class Helpdesk(http.server.ThreadingHTTPServer):
    """Another system, which notes what it is sent.  It fails at first at what
    has "busy" in it, and always at what has "bad"."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Ticket)
        self.taken, self.refused = [], []
        self.thread = threading.Thread(target=self.serve_forever)
        self.thread.start()

    def stop(self):
        self.shutdown()
        self.thread.join()
        self.server_close()


class Ticket(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        key, known = self.headers["Idempotency-Key"], self.server.refused
        is_bad = "bad" in body or "busy" in body and known.count(key) < 2
        (self.server.refused if is_bad else self.server.taken).append(key)
        self.send_response(422 if is_bad else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def helpdesk():
    server = Helpdesk()
    yield server
    server.stop()


@pytest.mark.long
def test_page_incoming_messages(page, helpdesk):
    page.post(incoming("+1234567890", "Hello, I need help with my order"),
              incoming("+491711234567", "Where is my parcel?"),
              status("abc123", "delivered", "2026-01-15T10:35:00Z"))
    page.sql()

    page.post(incoming("+491711234567", "A bad one"), incoming("+491711234567", "It's busy"),
              incoming("+491711234567", "It's busy"))  # the same, twice
    if page.can_run("php"):
        command, folder = page.write_program("php")
        for _ in range(2):
            assert page.start(command, folder).finish() == ""
        assert page.execute(f"select event_id from {USER}.ticket order by 1") == \
            [(1,), (2,), (4,), (5,)]
        check_exactly_once(page, command, folder)
    check_workers(page, helpdesk)
    page.sql()
    page.finish()


def check_workers(page, helpdesk):
    command, folder = page.write_program("python")
    where = f"http://127.0.0.1:{helpdesk.server_port}/"
    workers = [page.start([*command], folder, HELPDESK_URL=where) for _ in range(3)]
    # without the wait for its next turn
    hurry(page, "forwarder", lambda: page.execute("select 1 from sms.dead_letter"))
    wait_for("the queue to be empty", lambda: not page.execute("select 1 from sms.lease"))
    count = page.execute("select count(*) from sms.incoming_sms")[0][0]
    assert len(set(helpdesk.taken)) == len(helpdesk.taken) == count - 1
    assert helpdesk.refused.count("5") == 2 and helpdesk.refused.count("4") == 5
    page.sql()
    workers[0].kill()
    end_sessions(page)
    workers[1].wait_shown("trying again")
    page.post(incoming("+1", "One more"))
    wait_for("a worker", lambda: len(helpdesk.taken) == count)
    for worker in workers:
        worker.kill()
    page.sql()


def check_exactly_once(page, command, folder):
    """The program is killed again and again while messages come."""
    for n in range(20):
        page.post(incoming("+49301234", f"Message {n}", f"2026-01-16T10:00:{n:02}Z"))
        program = page.start(command, folder)
        if n % 2:
            wait_for("its session", lambda: page.execute(
                "select 1 from pg_stat_activity where usename = %s and query like '%%sms.%%'"
                " and datname = current_database() and application_name <> 'psql'", USER)
                or not program.running())
            program.kill()
        else:
            program.finish()
    page.start(command, folder).finish()
    tickets = page.execute(f"select event_id from {USER}.ticket order by 1")
    assert tickets == page.execute("select id from sms.incoming_sms order by 1")


def hurry(page, consumer, until):
    """Events that have failed can be claimed at once.  No lease of a worker ends:
    that is a minute."""
    def step():
        page.execute("""update sms.lease set due_at = now() where consumer = %s
            and due_at between now() and now() + interval '20 seconds'""", consumer)
        return until()
    wait_for("a dead letter", step)


def test_page_wait_for_verify(page):
    page.sql("postgres")
    page.sql()
    page.post(incoming("0049 171 1234567", "Verify! Thanks."))
    page.sql()
    page.sql()

    if page.can_run("js"):
        poll_never(page)
        page.execute(f"insert into {USER}.login (phone) values ('+491711234567')")
        check_waits_for_reply(page, page.program("js", "2"))
    if page.can_run("php"):
        check_login(page, page.website("login.php"))
    page.finish()


def check_waits_for_reply(page, program):
    asleep = """select 1 from pg_stat_activity where datname = current_database()
        and query like 'select reply_id, now() >%' and state = 'idle'"""
    program.wait_shown("waiting")
    page.wait_for_row(asleep)
    end_sessions(page)
    program.wait_shown("trying again")
    page.wait_for_row(asleep)
    page.post(incoming("+491711234567", "Verify! Thanks.", "2026-01-15T10:32:00Z"),
              incoming("+491711234568", "VERIFY"))
    assert program.finish().endswith("verified by event 2\n")


def check_login(page, address):
    browser, stranger = Browser(address), Browser(address)
    assert browser.open() == {"verified": False}
    word = browser.open(data=b"phone=%2B491711234567")["send"]
    assert stranger.open(data=b"phone=%2B491711234567")["send"] != word
    assert browser.open() == {"verified": False}
    sms = incoming("+491711234567", f"{word.lower()}.", "2026-01-15T10:33:00Z")
    page.post(incoming("+491711234568", word), incoming("+491711234567", "VERIFY"), sms, sms)
    assert stranger.open() == {"verified": False}
    assert browser.open() == browser.open() == {"verified": True}
    assert stranger.open() == Browser(address).open() == {"verified": False}


@pytest.mark.long
def test_page_wake_up(page_alone):
    page = page_alone
    page.enter()
    page.post(incoming("+1", "Hello"))
    page.notified()
    page.sessions.pop(USER).end()
    for language in ("python", "js"):
        if page.can_run(language):
            check_wakes_up(page)
    page.sql()
    page.sql("postgres")
    page.sessions.pop(USER).end()
    assert page.session().enter("show idle_in_transaction_session_timeout;").split()[2] == "1min"
    page.finish()


def check_wakes_up(page):
    block = dataclasses.replace(page.left[0])
    page.execute("select sms.seek('alarm', 0)")
    poll_never(page)
    # after each poll, so that the next event comes before the end of one without rows
    end, pause = {"python": ("100)\").fetchall()", "\n        time.sleep(0.1)"),
                  "js": ("100)\");", " await sleep(100);")}[block.language]
    page.edit(end, end + pause)
    check_follows(page, page.program(block.language))
    # and if notifications do not arrive
    page.left.insert(0, block)
    poll_each(page, 0.1)
    page.edit("listen sms_event", "listen to_nothing")
    program = page.program(block.language)
    for n in (1, 2):
        page.post(incoming("+2", f"{program.pid} {n}"))
        program.wait_shown("incoming_sms\n", n)
    program.kill()


def check_follows(page, program):
    """All events in order, while its connection is cut and PostgreSQL is started
    again.  What is printed is outside of the transaction: a cut may repeat it."""
    (n,), = page.execute("select count(*) from sms.event where duplicate_of is null")
    ids = range(1, n + 15)
    program.wait_shown(f"{n} incoming_sms\n")
    for i in range(14):
        if i == 4:
            end_sessions(page)
        if i == 9:
            page.cluster.stop()
        page.post(incoming("+1", f"{program.pid} {i}"))
        if i == 9:
            page.cluster.start()
        program.wait_shown(f"{n + i + 1} incoming_sms\n")
    wait_for("the end of its transaction", lambda: not page.execute("""
        select 1 from pg_stat_activity where usename = %s and xact_start is not null""", USER))
    shown = [int(line.split()[0]) for line in program.text().splitlines()
             if line.endswith("incoming_sms")]
    assert list(dict.fromkeys(shown)) == list(ids), program.text()
    program.kill()


def end_sessions(page):
    """As a restart of the server would: the programs' sessions, not psql's."""
    page.execute("""select pg_terminate_backend(pid) from pg_stat_activity
        where usename = %s and datname = current_database()
        and application_name <> 'psql'""", USER)


@pytest.fixture
def pool(postgres, top, request):
    """pgbouncer with the page's configuration, in front of the page's database."""
    if not tool("pgbouncer"):
        pytest.skip("pgbouncer is not installed")
    started = []

    def run_it(page):
        folder, port = new_folder(top, "b"), free_port()
        write(folder / "userlist.txt", f'"{USER}" "secret"\n')
        text = page.take("ini").text
        for old, new in (("/var/run/postgresql", postgres.folder), ("6432", port),
                         ("dbname=sms", f"dbname={page.database}"),
                         ("sms =", f"{page.database} ="),
                         ("/etc/pgbouncer/userlist.txt", folder / "userlist.txt")):
            assert text.count(old) == 1, old
            text = text.replace(old, str(new))
        # one session for all: whoever leaves something in it disturbs the others
        text += "unix_socket_dir =\ndefault_pool_size = 1\nserver_login_retry = 1\n"
        ini = write(folder / "pgbouncer.ini", text)
        started.append(Process([tool("pgbouncer"), ini], folder / "log"))
        wait_for("pgbouncer", lambda: "listening on 127.0.0.1" in started[-1].text())
        return port
    yield run_it
    for process in started:
        process.kill()


def test_page_pgbouncer(page, pool):
    port = pool(page)
    page.environment["PGPASSWORD"] = "secret"
    # the pages' port, in every program
    for block in page.left:
        block.text = block.text.replace("6432", str(port))
    direct = page.environment.copy()
    page.environment.update(PGHOST="127.0.0.1", PGPORT=str(port))
    page.post(incoming("+1", "Hello"), status("abc123", "sent"))
    page.sql()
    page.session().enter("listen sms_event;")
    page.environment = direct

    check_polling(page)
    poll_never(page)
    waking = page.program("python")
    waking.wait_shown("incoming_sms\n", 12)
    for n in range(10):
        page.post(incoming("+2", f"Message {n}"))
        waking.wait_shown("incoming_sms\n", 13 + n)
    page.finish()


def check_polling(page):
    """Several of each, which would get in each other's way with prepared statements."""
    page.edit("                time.sleep(1)", "                time.sleep(0.05)")
    command, folder = page.write_program("python")
    polling = [page.start(command, folder) for _ in range(3)]

    def shown():
        return sorted(int(line.split()[0]) for p in polling for line in p.text().splitlines()
                      if line.endswith("_sms"))
    command, folder = page.write_program("php") if page.can_run("php") else (None, None)
    for n in range(10):
        page.post(incoming("+1", f"Message {n}"))
        reports = [page.start(command, folder) for _ in range(4) if command]
        assert not any("Fatal" in r.finish() for r in reports)
    wait_for("all to be seen", lambda: shown() == list(range(3, 13)))
    wait_for("the last commit", lambda: page.execute("""select count(*) from sms.consumer_lag
        where consumer in ('billing', 'reports') and lag = 0""") == [(2 if command else 1,)])
    if command:
        reports = "".join(p.text() for p in page.running if p not in polling)
        assert [int(line.split()[0]) for line in reports.splitlines()] == list(range(1, 13))
    end_sessions(page)
    page.post(incoming("+1", "After that"))
    wait_for("the last", lambda: shown() == list(range(3, 14)))
    assert all(p.running() for p in polling)


def test_page_two_applications(page):
    page.post(incoming("+1234567890", "Hello, I need help with my order"),
              status("abc123", "sent", "2026-01-15T10:29:58Z"), status("abc123", "delivered"),
              status("def456", "sent"), status("def456", "failed"))
    page.sql()
    page.sql()
    page.sql()
    command, folder = page.write_program("python")
    assert page.start([*command, "5"], folder).finish() == ""
    page.execute("update sms.event set received_at = received_at - interval '6 minutes'")
    assert page.start([*command, "5"], folder).finish(2).startswith(
        "billing: 3 events behind, for 0:06:")
    page.execute("""insert into sms.dead_letter
        select 1, 'helpdesk', 1, 'no reason', now()""")
    assert "helpdesk: 0 events behind, for 0:00:00; 1 dead letters\n" in \
        page.start([*command, "60"], folder).finish(2)
    page.sql()
    assert page.execute("select 1 from sms.consumer where name = 'billing'") == []
    page.finish()


def test_page_keeping_data(page, programs):
    page.post(*(incoming("+1234567890", f"Hello {n}") for n in range(3)),
              status("abc123", "delivered"),
              incoming("+491711234567", "Forget me"),
              incoming("+491711234568", "Not me"))
    age(page, 200, 100, 40, 40, 5, 5)
    page.sql("postgres")
    page.sql("postgres")
    age(page, 0, 0, 100, 40, 40, 5)
    check_cron(page, programs)
    page.execute("update sms.event set phone = '+491711234567' where id = 5")
    page.sql("postgres")
    page.execute("select sms.seek('helpdesk', 5)")
    command, folder = page.write_program("python")
    numbers = ["+491711234568", "00491711234567"]
    forget = page.start([*command, *numbers], folder, PGUSER="postgres")
    assert forget.finish(1).splitlines()[-2:] == ["emptied: 0, left: 1",
                                                  "emptied: 0, left: 0"]
    page.sql()
    page.execute("select sms.drop_consumer('helpdesk')")
    forget = page.start([*command, *numbers], folder, PGUSER="postgres")
    assert forget.finish().startswith("emptied: 1, left: 0")
    assert page.execute("select 1 from sms.event where body is not null") == []
    page.finish()


def age(page, *days):
    """That the events 1, 2, ... are so old."""
    page.execute("""update sms.event
        set received_at = now() - make_interval(days => (%s::int[])[id::int])""", list(days))


def check_cron(page, programs):
    """Each line of a crontab, run as cron would, as the owner of this database."""
    lines = [line for line in page.take("crontab").text.splitlines() if line[0] != "#"]
    for line in lines:
        time, user, command = re.fullmatch(r"((?:\S+ ){5})(\S+) ([^%]+)", line).groups()
        assert re.fullmatch(r"\d+ \d+ \* \* \* ", time)
        assert len(re.findall(r"\bsms\b(?!\.)", command)) == 1, command
        command = re.sub(r"\bsms\b(?!\.)", page.database, command)
        done = run(["sh", "-c", command], env={
            "HOME": "/", "PGHOST": page.environment["PGHOST"], "PGUSER": user,
            "PATH": f"{programs}:{pg.program_folder()}:/usr/bin:/bin"})
        assert done.returncode == 0, done.stderr
    assert page.execute("select id, body is null from sms.event order by id") == \
        [(4, True), (5, True), (6, False)]


# -------------------------------------------------------------- both READMEs

def test_index(own_postgres, start, token, top):
    """From a database that has no role for an application yet."""
    with own_postgres.connect(own_postgres.name) as c:
        assert not c.execute("select 1 from pg_roles where rolname = %s", [USER]).fetchall()
    page = Page(DOCS / "README.md", own_postgres, own_postgres.name, None, token, top)
    page.sql("postgres")
    text = page.take("sh").text
    for old, new in (("/var/run/postgresql", own_postgres.folder),
                     ("PGDATABASE=sms", f"PGDATABASE={own_postgres.name}")):
        assert text.count(old) == 1
        text = text.replace(old, str(new))
    done = run(["sh", "-e", "-c", text],
               env={"PATH": f"{pg.program_folder()}:/usr/bin:/bin"})
    assert done.stdout.split()[2] == b"0", done.stderr
    page.session().enter("create table of_its_own (n int)")
    page.finish()


def test_readme(postgres, new_database, start, token, top):
    """What the front page shows of reading."""
    page = open_page(SOURCE / "README.md", postgres, new_database().name, start, token, top,
                     ["sql", "text"])
    try:
        page.post(status("abc123", "delivered"), incoming("+1234567890", "Verify, please"))
        shown = ""
        while page.left:
            page.sql()
            shown += page.output
        assert "delivered" in shown and "Verify, please" in shown
        assert page.execute("select last_id from sms.consumer where name = 'shop'") == [(2,)]
        assert page.execute("select event_id from sms.reply_taken") == [(2,)]
        assert page.execute("select event_id from sms.lease") == []
        page.post(incoming("+1234567890", "Hello"))
        assert 'notification "sms_event"' in page.session().enter("do $$ begin end $$;")
        page.finish()
    finally:
        page.stop()


# ------------------------------------------------------------ of the whole

def test_every_page_has_a_test():
    tested = {name.removeprefix("test_page_").replace("_", "-") + ".md"
              for name in globals() if name.startswith("test_page_")}
    assert sorted(tested | {"README.md"}) == PAGES


def test_every_page_has_psql_and_a_program():
    for name in set(PAGES) - {"README.md"}:
        languages = {b.language for b in blocks((DOCS / name).read_text())}
        assert "sql" in languages and languages & {"php", "python", "js"}, name


def test_every_page_is_installed_and_in_the_index():
    makefile = (SOURCE / "Makefile.am").read_text()
    index = (DOCS / "README.md").read_text()
    for name in PAGES:
        assert f"docs/{name}" in makefile, name
        assert f"]({name})" in index or name == "README.md", name


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in LINK.findall((DOCS / name).read_text()):
        assert (DOCS / target).exists(), target


# ------------------------------------------------- that it would be noticed

GOOD = "```sql\nselect 1 as one;\n```\n```text\n one\n-----\n   1\n(1 row)\n```\n"


@pytest.fixture
def page_of(postgres, template, top):
    """page_of(markdown): a page with no receiver."""
    made = []

    def make(text):
        path = write(new_folder(top, "md") / "page.md", text)
        made.append(Page(path, postgres, template, None, None, top))
        return made[-1]
    yield make
    for page in made:
        page.stop()


def test_output_is_compared(page_of):
    page_of(GOOD).sql("postgres")
    with pytest.raises(AssertionError, match="page.md:4 shows"):
        page_of(GOOD.replace("   1", "   2")).sql("postgres")


def test_error_of_sql_is_noticed(page_of):
    with pytest.raises(AssertionError, match="no_such"):
        page_of("```sql\nselect 1;\nselect no_such;\n```\n").sql("postgres")


def test_block_that_is_not_run_is_noticed(page_of):
    page = page_of(GOOD + "```python\n```\n")
    page.sql("postgres")
    with pytest.raises(AssertionError, match="page.md:10"):
        page.finish()


@pytest.mark.parametrize("text", ["    ls\n", "\tls\n", "```sql\n", "- x\n  ```sql\n  ```\n",
                                  "```\nls\n```\n"])
def test_code_in_another_form_is_noticed(text):
    with pytest.raises(AssertionError):
        blocks(text)


def test_dots_stand_for_anything():
    assert is_shown("a ...\nb\n", "a 17 \nb")
    assert not is_shown("a ...\nb\n", "a 17\nc") and not is_shown("a.\n", "ab")
