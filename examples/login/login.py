"""Login by SMS: signs in the browser whose number has texted VERIFY, and its code where needed.

One thread listens to PostgreSQL, takes the replies and wakes up the pages that wait."""
import hashlib
import html
import ipaddress
import os
import re
import secrets
import select
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

import psycopg

WITHIN = os.environ.get("LOGIN_WITHIN", "10 minutes")  # the SMS has to come
PER_CLIENT, PER_PHONE = 10, 20  # attempts in 10 minutes
# Nothing is prepared: a pooler may stand in between.
CONNINFO = "connect_timeout=5 tcp_user_timeout=30000 application_name=login"

PAGE = Path(__file__).parent / "page"
TEMPLATES = {p.stem: Template(p.read_text("utf-8")) for p in PAGE.glob("*.html")}
FILES = {f"/{name}": ((PAGE / name).read_bytes(), kind) for name, kind in (
    ("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml"))}
HEADERS = {
    "Cache-Control": "no-store",  # the Back button shows nothing after signing out
    "Content-Security-Policy":
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff"}


def log(text):
    print(f"login: {text}", file=sys.stderr, flush=True)


def describe(e):
    """Without the values that messages other than those of connections may quote."""
    if isinstance(e, psycopg.OperationalError):
        return " ".join(str(e).split())
    line = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == __file__][-1]
    return f"{type(e).__name__} {getattr(e, 'sqlstate', '')} at line {line}"


def number(text):
    """As smshook writes it, without what people paste along; None when it is none."""
    text = re.sub(r"[\s./()\u2010-\u2015\u200e\u200f\u202a-\u202e\u2066-\u2069-]", "", text)
    found = re.fullmatch(r"(?:\+|00)([1-9][0-9]{6,14})", text)
    return f"+{found[1]}" if found else None


SHOWN_NUMBER = os.environ.get("SMS_NUMBER", "")
SMS_NUMBER = number(SHOWN_NUMBER)

# Takes one reply of each number and notes it, in one statement: neither is lost.  The code
# says whose it is: who else tries to log in with the same number gets nothing by it.  VERIFY
# alone will do where no other attempt can be meant: none of the last hour has failed.
TAKE = """
with reply as materialized (
    select r.phone, r.id, r.received_at, coalesce(substring(r.body from '[0-9]+'),
        (select a.code from login.attempt a where a.phone = r.phone and a.reply_id is null
            and r.received_at >= a.asked_at and r.received_at < a.until and not exists (
                select from login.attempt o where o.phone = a.phone and o.code <> a.code
                and coalesce(o.verified_at, 'infinity') > a.asked_at))) as code
    from (select phone, min(asked_at) as since, max(until) as until
        from login.attempt where reply_id is null and closes_at > now()
        group by phone order by phone) a,
    sms.take_reply(a.phone, 'VERIFY', a.since, a.until - a.since) r
), noted as (
    update login.attempt a set other_sms = true,
        reply_id = case when a.code = r.code then r.id end,
        verified_at = case when a.code = r.code then now() end,
        closes_at = greatest(closes_at, case when a.code = r.code -- time to come back
            then now() + interval '5 minutes' end)
    from reply r
    where a.phone = r.phone and a.reply_id is null
        and r.received_at >= a.asked_at and r.received_at < a.until
        and (a.code = r.code or not exists (
            select from login.attempt o where o.phone = r.phone and o.code = r.code
            and o.secret is not null and r.received_at < o.until)))
select count(*) from reply"""

FORGET = """
with old as (delete from login.attempt where closes_at < now() - interval '1 hour')
delete from login.session where until < now()"""

ATTEMPTS = """
select secret, case when reply_id is not null then 'verified' when closes_at <= now() then 'over'
        when other_sms then 'other' else 'waiting' end,
    phone, code, greatest(0, ceil(extract(epoch from until - now())))::int
from login.attempt where secret = any(%s)"""
OPEN = ("waiting", "other")

RECENT = """
select count(*) filter (where client = %s), count(*) filter (where phone = %s)
from login.attempt where asked_at > now() - interval '10 minutes'"""

# It stays open a minute longer, for what was received in time and waits in the spool.
ASK = """
insert into login.attempt (phone, client, secret, code, until, closes_at)
select %s, %s, %s, %s, now() + w, now() + w + least(w, '1 minute')
from cast(%s as interval) w
on conflict (phone, code) do nothing"""

# Again within a minute, for a second tab, or when the first answer was lost.
SIGN_IN = """
with used as (
    update login.attempt set closes_at = least(closes_at, now() + interval '1 minute')
    where secret = %s and reply_id is not null and closes_at > now()
    returning phone)
insert into login.session (secret, phone, until)
select %s, phone, now() + interval '12 hours' from used"""

GIVE_UP = "update login.attempt set secret = null where secret = %s"
SESSION = "select phone from login.session where secret = %s and until > now()"
SIGN_OUT = "delete from login.session where secret = %s"

SLOTS = threading.BoundedSemaphore(8)


@contextmanager
def database():
    """A connection for one request: that takes 3 ms on the same machine, and is never stale."""
    if not SLOTS.acquire(timeout=5):
        raise psycopg.OperationalError("all connections are in use")
    try:
        with psycopg.connect(CONNINFO, autocommit=True, prepare_threshold=None) as db:
            yield db
    finally:
        SLOTS.release()


def add_attempt(db, phone, client, secret):
    """False when there were too many."""
    with db.transaction():
        db.execute("lock table login.attempt in share row exclusive mode")  # to count right
        by_client, by_phone = db.execute(RECENT, [client, phone]).fetchone()
        if by_client >= PER_CLIENT or by_phone >= PER_PHONE:
            return False
        while not db.execute(ASK, [phone, client, secret, str(1000 + secrets.randbelow(9000)),
                                   WITHIN]).rowcount:
            pass  # another attempt has that code
    return True


BEAT = b"event: beat\ndata:\n\n"
STREAMS, MAX_STREAMS = {}, 400  # event of a page that waits: (the attempt's secret, what it shows)
STOPPING = threading.Event()


def look(db):
    """Takes all replies, and wakes up the pages that show another state than holds."""
    while db.execute(TAKE).fetchone()[0]:
        pass
    db.execute(FORGET)
    streams = list(STREAMS.items())
    rows = db.execute(ATTEMPTS, [[secret for _, (secret, _) in streams]]).fetchall()
    states = {secret: state for secret, state, *_ in rows}
    for changed, (secret, shown) in streams:
        if states.get(secret) != shown:
            changed.set()


def listen():
    """For ever.  A notification is a hint: it looks after connecting and now and then, too."""
    pause = 0.5
    while True:
        try:
            with psycopg.connect(CONNINFO, autocommit=True, prepare_threshold=None) as db:
                notified = []
                db.add_notify_handler(notified.append)
                db.execute("listen login")
                log("listening to PostgreSQL")
                while True:
                    notified.clear()
                    look(db)
                    pause = 0.5
                    if not notified:  # or it came while we looked
                        select.select([db], [], [], 5)
        except Exception as e:  # this thread must not end
            log(f"{describe(e)}; trying again in {pause} s")
            time.sleep(pause)
            pause = min(2 * pause, 10)


def digest(secret):
    return hashlib.sha256(secret.encode()).digest()


class Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "login", ""
    timeout = 10  # s, of one read or write
    typed, cookies = "", ()

    def do_GET(self):
        path, _, state = self.path.partition("?")
        if path in FILES:
            return self.send(200, *FILES[path])
        actions = {"/": [self.show], "/wait": [self.wait, state]}
        self.guard(*actions.get(path, [self.send_error, 404]))

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not self.is_from_our_page():
            return self.send_error(403)
        if not re.fullmatch(r"[0-9]{1,4}", length):
            return self.send_error(413)
        form = parse_qs(self.rfile.read(int(length)).decode("utf-8", "replace"))
        self.typed = form.get("phone", [""])[0].strip()[:40]
        actions = {"/": [self.ask], "/other": [self.end, "attempt", GIVE_UP],
                   "/out": [self.end, "session", SIGN_OUT]}
        self.guard(*actions.get(self.path, [self.send_error, 404]))

    def guard(self, action, *arguments):
        try:
            action(*arguments)
        except psycopg.Error as e:
            log(describe(e))
            self.page(503, "moment")

    def show(self):
        """What there is to see for this browser; signs it in when its SMS has come."""
        with database() as db:
            session = db.execute(SESSION, [self.cookie("session")]).fetchone()
            state, phone, code, left = self.attempt(db)
            signed_in = not session and state == "verified" and self.sign_in(db)
        if session:
            self.page(200, "signed-in", phone=session[0])
        elif signed_in:
            self.send(303, more={"Location": "/"})
        elif state in OPEN:
            self.page(200, "wait", state=state, phone=phone, code=code, to=SHOWN_NUMBER,
                      link=f"sms:{SMS_NUMBER}?&body=VERIFY%20{code}",  # ?&: iOS and Android
                      seconds=left, clock=f"{left // 60}:{left % 60:02}",
                      hidden="" if state == "other" else "hidden")
        elif state == "over":
            self.typed = phone
            self.form(200, f"Time is over: no SMS with VERIFY {code} has come from {phone}. "
                      "Please ask again.")
        else:
            self.form(200)

    def wait(self, shown):
        """Server-sent events: one, when the page shows another state than holds."""
        changed = threading.Event()
        STREAMS[changed] = (self.cookie("attempt"), shown)  # first this, then look
        try:
            with database() as db:
                if self.attempt(db)[0] != shown:
                    changed.set()
            self.send(200, BEAT, "text/event-stream", {"X-Accel-Buffering": "no"})
            while len(STREAMS) <= MAX_STREAMS and not changed.wait(5):  # else it asks again
                self.wfile.write(BEAT)  # each side finds out whether the other is gone
            if changed.is_set() and not STOPPING.is_set():
                self.wfile.write(b"data: changed\n\n")
        finally:
            del STREAMS[changed]

    def ask(self):
        phone, secret = number(self.typed), secrets.token_urlsafe()
        if not phone:
            return self.form(422, f"\u201c\u2068{self.typed}\u2069\u201d is not a phone number "
                             "with its country code, such as +49 171 1234567.")
        with database() as db:
            state, asked, *_ = self.attempt(db)
            if state not in OPEN or asked != phone:  # else a second click, or tab
                if not add_attempt(db, phone, self.client(), digest(secret)):
                    return self.form(429, "Too many attempts. Please try again in ten minutes.")
                self.set_cookie("attempt", secret, 24 * 3600)
        self.send(303, more={"Location": "/"})

    def sign_in(self, db):
        """With a new secret: that of the attempt may have been planted by somebody else."""
        secret = secrets.token_urlsafe()
        done = db.execute(SIGN_IN, [self.cookie("attempt"), digest(secret)]).rowcount
        self.set_cookie("attempt", "", 0)
        if done:
            self.set_cookie("session", secret, 12 * 3600)
        return done

    def end(self, name, statement):
        with database() as db:
            db.execute(statement, [self.cookie(name)])
        self.set_cookie(name, "", 0)
        self.send(303, more={"Location": "/"})

    def attempt(self, db):
        """Of this browser: (state, phone, code, seconds left)."""
        row = db.execute(ATTEMPTS, [[self.cookie("attempt")]]).fetchone()
        return row[1:] if row else (None, None, None, None)

    def is_from_our_page(self):
        """No other site posts here with our cookies, or signs its visitors in."""
        site, origin = self.headers.get("Sec-Fetch-Site"), self.headers.get("Origin", "")
        return site == "same-origin" if site else origin.partition("://")[2] == self.headers["Host"]

    def client(self):
        """The browser's network, as nginx says: with IPv6 it has 2^64 addresses."""
        try:
            address = ipaddress.ip_address(self.headers.get("X-Real-IP") or self.client_address[0])
        except ValueError:
            return "unknown"
        address = getattr(address, "ipv4_mapped", None) or address
        return str(ipaddress.ip_network((address, 64 if address.version == 6 else 32), False))

    def is_secure(self):
        return self.headers.get("X-Forwarded-Proto") == "https"

    def cookie(self, name):
        """The digest of its value: nothing else is kept or looked for."""
        name = f"__Host-login-{name}" if self.is_secure() else f"login-{name}"
        found = re.search(f"(?:^|; *){name}=([^;]+)", self.headers.get("Cookie", ""))
        return digest(found[1]) if found else b""

    def set_cookie(self, name, value, age):
        prefix, end = ("__Host-", "; Secure") if self.is_secure() else ("", "")
        self.cookies += (f"{prefix}login-{name}={value}; Path=/; Max-Age={age}; HttpOnly; "
                         f"SameSite=Lax{end}",)

    def page(self, status, template, **values):
        values = {name: html.escape(str(value)) for name, value in values.items()}
        self.send(status, TEMPLATES[template].substitute(values).encode())

    def form(self, status, notice=""):
        self.page(status, "ask", typed=self.typed, notice=notice, hidden="" if notice else "hidden")

    def send(self, status, body=b"", kind="text/html", more=None):
        self.send_response(status)
        headers = {**HEADERS, "Content-Type": f"{kind}; charset=utf-8", **(more or {})}
        for name, value in [*headers.items(), *(("Set-Cookie", c) for c in self.cookies)]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_error(self, code, message=None, explain=None):
        self.send(code, f"{code} {self.responses[code][0]}\n".encode(), "text/plain")

    def log_message(self, format, *args):
        """nginx has an access log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True  # a browser may keep a connection open, and say nothing
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # that a browser is gone is no error
            log(describe(sys.exc_info()[1]))


def main():
    if not SMS_NUMBER:
        sys.exit("login: SMS_NUMBER must be the number that people text to, such as +49301234567")
    for caught in (signal.SIGTERM, signal.SIGINT):
        signal.signal(caught, lambda *_: sys.exit(0))
    server = Server(("127.0.0.1", int(os.environ.get("PORT", "8193"))), Handler)
    threading.Thread(target=listen, daemon=True).start()
    log("http://{}:{}/".format(*server.server_address))
    try:
        server.serve_forever()
    finally:
        STOPPING.set()
        for changed in list(STREAMS):
            changed.set()
        server.server_close()
        time.sleep(1)  # for answers under way


if __name__ == "__main__":
    main()
