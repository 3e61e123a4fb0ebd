"""The support inbox of examples/inbox, with a gateway that the tests play."""
import base64
import http.client
import http.server
import json
import re
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from canary import PHONE, new_token
from pages import incoming, missing, status
from process import run, tool, wait_for, write
from servers import SOURCE, Nginx

PHP = [tool("php") or "php"]
ALICE, BOB = "+4915112345670", "+447700900123"
HOSTILE = "<script>alert(1)</script><b>bold</b> &amp; \"'"
HEBREW = "שלום, איפה החבילה שלי? ORDER-17 תודה!"
EMOJI = "👩‍👩‍👧‍👦 thanks 🎉 ❤️"
LONG = "Zitronenfalter" * 114 + "1600"
TEXTS = [HOSTILE, HEBREW, EMOJI, LONG]
NOW = None  # of incoming(): the gateway's own time is not shown


@pytest.fixture(autouse=True)
def php():
    if missing("php"):
        pytest.skip(missing("php"))


class Gateway:
    """addsms: keeps the calls; .answer(call) is what it does with one."""

    def __init__(self, port=0):
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                form = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gateway.take(self, dict(urllib.parse.parse_qsl(form, strict_parsing=True)))

            def log_message(self, *_):
                pass

        self.calls, self.lock, self.answer = [], threading.Lock(), self.ok
        self.held = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}/getdata/addsms"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, handler, call):
        with self.lock:
            self.calls.append(call)
            call["id"] = f"{len(self.calls)}00"
        code, body = self.answer(call)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            handler.send_response(code)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:
            pass  # killed meanwhile

    def ok(self, call):
        return 200, {"error": 0, "sms_id": int(call["id"]), "message": "OK"}

    def refuse(self, call):
        return 200, {"error": 1, "message": "No credit <b>left</b>"}

    def hold(self, call):
        """Until .held is set."""
        self.held.wait(60)
        return self.ok(call)

    def sent_to(self, phone):
        return [c for c in self.calls if c["sendto"] == phone]

    def stop(self):
        self.held.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def gateway():
    g = Gateway()
    yield g
    g.stop()


class Inbox:
    """The site, its workers, and what the tests ask of them."""

    def __init__(self, example, gateway):
        self.example, self.gateway = example, gateway
        self.url, self.execute, self.post = example.url, example.execute, example.post
        self.token = new_token()
        example.launch([*PHP, "-S", f"127.0.0.1:{example.port}", "-t", example.folder / "public"],
                       {"PHP_CLI_SERVER_WORKERS": "8", "REMOTE_USER": "Anna"})
        example.wait_up()

    def worker(self, hours="always", wait=True, **environment):
        worker = self.example.launch([*PHP, self.example.folder / "worker.php"], {
            "SMS_GATEWAY_URL": self.gateway.url, "SMS_GATEWAY_TOKEN": self.token,
            "SMS_DEVICE_ID": "device-7", "SMS_SIM": "1", "SMS_NUMBER": "+49 151 0000 0001",
            "OFFICE_HOURS": hours, "SMS_GATEWAY_TIMEOUT": "30", **environment})
        if wait:
            worker.wait_shown("the worker is ready")
        return worker

    def reply(self, phone=ALICE, body="Hello", key=None, accept="text/html", **headers):
        """The answer of a form that is posted: (status, text)."""
        form = {"c": self.conversation(phone), "body": body, "key": key or new_key()}
        return self.send("reply", form, {"Accept": accept, "Sec-Fetch-Site": "same-origin",
                                         **headers})

    def send(self, path, form=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.example.port, timeout=20)
        data = None if form is None else urllib.parse.urlencode(form)
        c.request("GET" if form is None else "POST", "/" + path, data, {
            "Content-Type": "application/x-www-form-urlencoded", **(headers or {})})
        answer = c.getresponse()
        return answer.status, answer.read().decode()

    def conversation(self, phone):
        self.execute("select inbox.sync()")
        return self.execute("select id from inbox.conversation where phone = %s", phone)[0][0]

    def states(self, phone=None):
        return [state for state, in self.execute(
            """select r.state from inbox.reply r join inbox.conversation c
            on c.id = r.conversation_id where %s::text is null or c.phone = %s
            order by r.id""", phone, phone)]

    def wait_states(self, *states, phone=None):
        wait_for(f"replies {states}", lambda: self.states(phone) == list(states))

    def open(self, browser, phone=None, **options):
        page = browser.page(**options)
        page.open(self.url + (f"/?c={self.conversation(phone)}" if phone else ""))
        page.wait("#live.live")
        return page


def new_key():
    return new_token().encode().hex()[-32:]


@pytest.fixture
def inbox(example, gateway):
    i = Inbox(example("inbox"), gateway)
    yield i
    told = "".join(p.text() for p in i.example.running)
    assert "PHP Warning" not in told and "Uncaught" not in told, told


def errors(page):
    """But for what a page that is left does not load to its end, such as the stream of events."""
    return [e for e in page.errors() if not e.endswith(": net::ERR_ABORTED")]


def send(page, text):
    page.fill("#body", text)
    page.click("#reply button")


# -------------------------------------------------------------- the browser

def test_incoming_and_reply(inbox, browser, gateway):
    """From the first SMS to the delivered answer, and no reload in between."""
    begin = time.monotonic()
    list_page = inbox.open(browser)
    list_page.wait(".none", "Nobody has written yet")
    inbox.post(incoming(ALICE, "Where is my parcel?"))
    list_page.wait("#list li.unread .name", ALICE)
    list_page.wait(".toast", "Where is my parcel?")
    assert time.monotonic() - begin < 25  # sooner than by its look each 30 s
    assert list_page.title() == "(1) Inbox"
    inbox.post(incoming(BOB, "Hi"), incoming(BOB, "Are you there?"))
    list_page.wait("#list li:first-child .preview", "Are you there?")
    assert list_page.texts("#list .name") == [BOB, ALICE]
    assert list_page.texts("#list .face") == ["23", "70"]
    assert list_page.text("#list .badge").split()[0] == "2"

    inbox.post(incoming(ALICE, "It is late"))  # the newest, so the first
    list_page.wait("#list li:first-child .name", ALICE)
    page = inbox.open(browser, ALICE)  # and read by that
    page.wait("#list .current .name", ALICE)
    page.wait_gone("#list .current.unread")
    list_page.wait("#list li:first-child .name", BOB)  # unread first
    assert list_page.title() == "(1) Inbox"
    assert page.texts("#thread p") == ["Where is my parcel?", "It is late"]
    inbox.post(incoming(ALICE, "Please!"))  # read at once, for it is open
    page.wait("#thread p", "Please!")
    wait_for("it is read", lambda: inbox.execute(
        "select unread from inbox.conversation where phone = %s", ALICE) == [(0,)])
    assert not [t for t in page.texts(".toast") if ALICE in t]
    # what came after what an agent has seen stays unread
    newest, = inbox.execute("select last_event_id from inbox.conversation where phone = %s", BOB)
    form = {"c": inbox.conversation(BOB), "seen": newest[0] - 1}
    assert inbox.send("read", form, {"Sec-Fetch-Site": "same-origin"})[0] == 303
    assert inbox.execute("select unread from inbox.conversation where phone = %s", BOB) == [(2,)]

    inbox.worker()
    send(page, "It is on its way.\nSorry!")
    page.wait(".out .state", "handed over")
    call, = gateway.calls
    assert call == {"token": inbox.token, "sendto": ALICE, "body": "It is on its way.\nSorry!",
                    "device_id": "device-7", "sim": "1", "id": "100"}
    assert page.text("#body") == ""
    for word in "queued", "sent", "delivered":
        inbox.post(status("100", word, phone=ALICE))
        page.wait(".out .state", word)
    assert "Anna" in page.text(".out footer")
    list_page.wait("#list .preview", "You: It is on its way.")
    page.reload()
    page.wait(".out .state.good", "delivered")
    assert errors(page) == errors(list_page) == []
    page.close()
    list_page.close()


def test_statuses(inbox, browser, gateway):
    """Before the gateway's answer is noted, and in the wrong order."""
    inbox.post(incoming(ALICE, "Hi"), status("100", "delivered", phone=ALICE))
    inbox.worker()
    page = inbox.open(browser, ALICE)
    for n in range(3):
        inbox.reply(body=f"answer {n}")
    page.wait(".out .state", "delivered")
    inbox.wait_states("sent", "sent", "sent")
    inbox.post(status("200", "failed", phone=ALICE), status("200", "sent", phone=ALICE),
               {"sms_id": 300, "status_id": 12, "status_message": "no <i>credit</i>",
                "sendto": ALICE, "senttime": "2026-01-15 10:30:00", "device_id": 1})
    page.wait(".why", "no <i>credit</i>")
    assert page.texts(".out .state") == ["delivered", "failed", "failed"]
    assert page.texts(".out .why") == ["no <i>credit</i>"]
    page.wait("#list .preview", "not delivered")
    inbox.execute("""insert into sms.message (source, message_id, status, phone, received_at,
        event_id) values ('another', '100', 'failed', '+1999', now() + interval '1 hour', 0)""")
    inbox.post(status("300", "delivered", phone=ALICE))
    page.wait_gone("#list .preview .bad")
    assert page.texts(".out .state") == ["delivered", "failed", "delivered"]
    page.close()


def test_what_is_news(inbox, gateway):
    """A status of what the shop has sent wakes no page."""
    inbox.post(incoming(ALICE, "Hi"))
    inbox.worker()
    inbox.reply()
    inbox.wait_states("sent")
    with urllib.request.urlopen(inbox.url + "/events", timeout=20) as stream:
        lines = iter(stream.readline, b"")
        assert next(lines) == b"data: news\n"
        inbox.post(status("of-the-shop", "delivered"), status("100", "delivered"),
                   status("of-the-shop-too", "delivered"))  # or it waits for the next sign of life
        assert [next(line for line in lines if line != b"\n") for _ in range(4)] == [
            b"event: alive\n", b"data:\n", b"data: news\n", b"event: alive\n"]


def test_texts_are_texts(inbox, browser, gateway):
    inbox.worker()
    inbox.post(*(incoming(ALICE, text) for text in TEXTS),
               incoming("<b>Shop</b>", "by name"), incoming(BOB, "Hi"))
    page = inbox.open(browser, ALICE)
    assert page.evaluate("[...document.querySelectorAll('.in p')].map((p) => p.textContent)") \
        == TEXTS
    assert page.evaluate("getComputedStyle(document.querySelectorAll('.in p')[1]).direction") \
        == "rtl"
    for n, text in enumerate(TEXTS, 1):
        send(page, text)
        page.wait(f":nth-match(.out, {n}) .state", "handed over")
    assert page.evaluate("[...document.querySelectorAll('.out p')].map((p) => p.textContent)") \
        == TEXTS
    assert [c["body"] for c in gateway.calls] == TEXTS
    assert page.count("#thread script, #thread b, #list b") == 0
    for text, n in ("a" * 160, 1), ("a" * 161, 2), ("€" * 81, 2), ("ж" * 70, 1), ("ж" * 71, 2):
        page.fill("#body", text)
        assert page.text("#size") == f"{len(text)} / 1600 · {n} SMS"
    for width in 390, 1280:
        narrow = inbox.open(browser, ALICE, width=width)
        assert narrow.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        narrow.close()
    named = inbox.open(browser, "<b>Shop</b>")
    named.wait("#noreply", "cannot be answered")
    assert named.count("#reply") == 0 and errors(named) == errors(page) == []
    assert inbox.reply("<b>Shop</b>", accept="application/json")[0] == 422
    assert inbox.reply(body="x" * 1601, accept="application/json")[0] == 422
    assert inbox.reply(body=" \n ", accept="application/json")[0] == 422
    assert inbox.reply(body=b"\xff", accept="application/json")[0] == 422
    named.close()
    page.close()


def test_sent_once(inbox, browser, gateway):
    """However often the form is sent; and not by another site's page."""
    inbox.post(incoming(ALICE, "Hi"))
    key = new_key()
    together = [threading.Thread(target=inbox.reply, kwargs={"key": key}) for _ in range(4)]
    for t in together:
        t.start()
    for t in together:
        t.join()
    assert inbox.reply(key=key)[0] == 303
    assert inbox.reply(key=key, body="other", accept="application/json")[0] == 409
    page = inbox.open(browser, ALICE)
    page.fill("#body", "twice?")
    page.evaluate("""[1, 2, 3].forEach(() =>
        document.querySelector('#reply button').click())""")
    page.wait(".out p", "twice?")
    page.wait(".out:last-child .state", "waiting")
    inbox.execute("update inbox.reply set created_at = created_at - interval '61 seconds'")
    page.wait(".out .why", "Nobody sends it")
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
                    {"Sec-Fetch-Site": "none"}):
        assert inbox.reply(body="forged", **headers)[0] == 403
    form = {"c": inbox.conversation(ALICE), "body": "forged", "key": new_key()}
    assert inbox.send("reply", form, {"Origin": "https://evil.example"})[0] == 403
    assert inbox.send("reply", form)[0] == 403  # says nothing
    assert inbox.send("reply", {**form, "body": "by Origin"}, {
        "Origin": inbox.url, "Host": inbox.url.removeprefix("http://")})[0] == 303
    inbox.worker(), inbox.worker()
    inbox.wait_states("sent", "sent", "sent")
    assert [c["body"] for c in gateway.calls] == ["Hello", "twice?", "by Origin"]
    page.close()


def test_gateway_refuses(inbox, browser, gateway):
    inbox.post(incoming(ALICE, "Hi"))
    inbox.worker()
    gateway.answer = gateway.refuse
    page = inbox.open(browser, ALICE)
    send(page, "Hello")
    page.wait(".out .why", "No credit <b>left</b>")
    assert page.text(".out .state") == "not sent"
    gateway.answer = gateway.ok
    page.evaluate("""[1, 2].forEach(() => document.querySelector('.out button').click())""")
    page.wait(".out .state", "handed over")
    assert len(gateway.calls) == 2 and page.count(".out button") == 0
    reply, = inbox.execute("select id from inbox.reply")
    assert inbox.send("again", {"id": reply[0]}, {"Accept": "application/json",
                                                  "Sec-Fetch-Site": "same-origin"})[0] == 409
    gateway.answer = lambda call: (403, b"<h1>Forbidden</h1>")
    send(page, "Hello 2")
    page.wait(".out .why", "The gateway answered HTTP 403.")
    page.close()


def test_gateway_hangs(inbox, browser, gateway):
    """Nobody knows whether it was sent: it is not sent again but by the agent."""
    inbox.post(incoming(ALICE, "Hi"), incoming(BOB, "Hi"))
    gateway.answer = gateway.hold
    inbox.worker(SMS_GATEWAY_TIMEOUT="1")
    page = inbox.open(browser, ALICE)
    send(page, "Hello")
    page.wait(".out .state", "sending")
    page.wait(".out .state.warn", "may have been sent")
    page.wait(".out .why", "The gateway did not answer.")
    assert len(gateway.calls) == 1
    gateway.answer = lambda call: (502, b"<h1>Bad gateway</h1>")
    send(page, "Hello 2")
    page.wait(".out .why", "HTTP 502")
    gateway.answer = gateway.ok
    page.click(".out button")  # of the first
    page.wait(".out .state", "handed over")
    inbox.reply(BOB)
    inbox.wait_states("sent", "unknown", "sent")
    assert [c["body"] for c in gateway.calls] == ["Hello", "Hello 2", "Hello", "Hello"]
    page.close()


def test_gateway_is_too_late(inbox, gateway):
    """What a worker hears of an attempt when an agent has begun another is not noted."""
    inbox.post(incoming(ALICE, "Hi"))
    inbox.worker(), inbox.worker()
    gateway.answer = gateway.hold
    inbox.reply()
    inbox.wait_states("sending")
    wait_for("the call", lambda: gateway.calls)
    reply, = inbox.execute("select id from inbox.reply")
    again = {"id": reply[0]}, {"Accept": "application/json", "Sec-Fetch-Site": "same-origin"}
    assert inbox.send("again", *again)[0] == 409  # it may still be on its way
    inbox.execute("update inbox.reply set due_at = due_at - interval '61 seconds'")
    gateway.answer = gateway.ok
    assert inbox.send("again", *again)[0] == 204
    inbox.wait_states("sent")
    gateway.held.set()
    wait_for("both", lambda: "".join(p.text() for p in inbox.example.running).count(
        f"reply {reply[0]}: sent") == 2)
    assert inbox.execute("select message_id from inbox.reply") == [("200",)]


def test_gateway_is_down(inbox, browser, gateway):
    """No connection, so nothing was sent: it is tried again by itself, in its order."""
    inbox.post(incoming(ALICE, "Hi"), incoming(BOB, "Hi"))
    gateway.stop()
    inbox.worker()
    page = inbox.open(browser, ALICE)
    send(page, "one")
    page.wait(".out .why", "The gateway cannot be reached.")
    assert page.text(".out .state") == "waiting"
    again = Gateway(gateway.port)
    inbox.execute("update inbox.reply set due_at = now() + interval '1 hour'")
    send(page, "two")
    inbox.reply(BOB)
    inbox.wait_states("sent", phone=BOB)
    assert inbox.states(ALICE) == ["waiting", "waiting"]
    inbox.execute("update inbox.reply set due_at = now()")
    inbox.wait_states("sent", "sent", phone=ALICE)
    assert [c["body"] for c in again.calls] == ["Hello", "one", "two"]
    again.stop()
    wait_for("both", lambda: page.texts(".out .state") == ["handed over"] * 2)
    send(page, "three")
    page.wait(".out .why", "The gateway cannot be reached.")
    inbox.execute("update inbox.reply set attempts = 4, due_at = now() where body = 'three'")
    page.wait(".out .state.bad", "not sent")  # in the end
    page.click(".out button")
    page.wait(".out .state", "waiting")
    page.close()


def test_gateway_answers(inbox, top):
    """What is made of each answer."""
    cases = [
        (200, '{"error":0,"sms_id":1234,"message":"OK"}', ["sent", "1234", None]),
        (200, '{"error":"0","sms_id":"a1"}', ["sent", "a1", None]),
        (200, '{"error":0}', ["sent", None, None]),
        (200, '{"error":0,"sms_id":[1]}', ["sent", None, None]),
        (200, '{"error":1,"message":"bad\\u0000 number"}', ["refused", None, "bad number"]),
        (200, '{"error":1}', ["refused", None, "The gateway gave no reason."]),
        (200, '{"error":"wrong token","message":[]}', ["refused", None,
                                                       "The gateway gave no reason."]),
        (500, json.dumps({"error": 1, "message": "é" * 300}), ["refused", None, "é" * 200]),
        (401, "", ["refused", None, "The gateway answered HTTP 401."]),
        (301, "", ["refused", None, "The gateway answered HTTP 301."]),
    ] + [(code, text, ["unknown", None, f"The gateway answered HTTP {code}, and not what "
                       "became of the SMS."])
         for code, text in [(200, ""), (200, '{"error":0,'), (200, '"ok"'), (502, "<h1>Bad</h1>"),
                            (200, "[]"), (0, "")]]
    script = inbox.example.folder / "lib"
    done = run([*PHP, "-r", f"""require '{script}/base.php'; require '{script}/gateway.php';
        foreach (json_decode($argv[1]) as [$code, $text])
            echo json_encode(read_answer($code, $text)), "\\n";""",
        json.dumps([c[:2] for c in cases])])
    assert [json.loads(line) for line in done.stdout.splitlines()] == [c[2] for c in cases]


# -------------------------------------------------------- automatic answers

def test_office_hours(inbox):
    """2026-01-14 was a Wednesday."""
    cases = [
        ("Mon-Fri 09:00-17:00", "2026-01-14 09:00", True),
        ("Mon-Fri 09:00-17:00", "2026-01-14 08:59", False),
        ("Mon-Fri 09:00-17:00", "2026-01-14 17:00", False),
        ("Mon-Fri 09:00-17:00", "2026-01-17 12:00", False),
        ("Mon-Fri 09:00-17:00, Sat 10:00-12:00", "2026-01-17 11:59", True),
        ("Sat-Mon 00:00-24:00", "2026-01-18 23:59", True),
        ("Sat-Mon 00:00-24:00", "2026-01-20 00:00", False),
        ("Wed 09:00-12:00,Wed 13:00-17:00", "2026-01-14 12:30", False),
        ("never", "2026-01-14 12:00", False), ("always", "2026-01-18 03:00", True),
        ("Mon-Fri 9-17", "2026-01-14 12:00", None), ("", "2026-01-14 12:00", None),
        ("Mon-Fri 17:00-09:00", "2026-01-14 12:00", None),
        ("Mon 09:00-17:00, Tues 1", "2026-01-12 12:00", None),
    ]
    done = run([*PHP, "-r", f"""require '{inbox.example.folder}/lib/hours.php';
        foreach (json_decode($argv[1]) as [$hours, $at]) try {{
            echo json_encode(is_open($hours, new DateTimeImmutable($at))), "\\n";
        }} catch (InvalidArgumentException) {{ echo "null\\n"; }}""", json.dumps(cases)])
    assert [json.loads(line) for line in done.stdout.splitlines()] == [c[2] for c in cases]
    for wrong in ({"OFFICE_HOURS": "9 to 5"}, {"OFFICE_TIMEZONE": "Mars/Base"},
                  {"SMS_GATEWAY_TOKEN": ""}, {"SMS_DEVICE_ID": ""}):
        assert inbox.worker(wait=False, **wrong).wait() == 78


def test_automatic_answer(inbox, browser, gateway):
    """Once a customer and day; not to names, short codes, ourselves, keywords, nor to what is old."""
    inbox.execute("insert into sms.keyword (keyword, channel) values ('VERIFY', 'login')")
    night = inbox.worker("never", AUTO_ANSWER="We sleep 😴", OFFICE_TIMEZONE="Pacific/Auckland")
    inbox.post(incoming("Vodafone", "Your bill"), incoming("7373", "You have won"),
               incoming("+15550003", "Verify 4711"),
               incoming("+4915100000001", "an echo"), incoming(ALICE, "Hi"),
               incoming(ALICE, "Anybody there?"), incoming("00447700900123", "Hi"))
    inbox.wait_states("sent", "sent")
    assert sorted((c["sendto"], c["body"]) for c in gateway.calls) == [
        (BOB, "We sleep 😴"), (ALICE, "We sleep 😴")]
    page = inbox.open(browser, ALICE)
    page.wait(".out.automatic footer", "Automatic answer")
    page.close()
    assert inbox.execute("""select distinct r.automatic_day =
        (now() at time zone 'Pacific/Auckland')::date from inbox.reply r""") == [(True,)]

    # the next day
    inbox.execute("update inbox.reply set automatic_day = automatic_day - 1")
    inbox.post(incoming(ALICE, "Good morning"))
    inbox.wait_states("sent", "sent", phone=ALICE)
    # in the middle of a talk
    inbox.reply(BOB, "I am here all the same")
    inbox.post(incoming(BOB, "Oh, thanks"))
    wait_done(inbox)
    assert len(inbox.states(BOB)) == 2
    # after an outage
    assert night.stop() in (0, -signal.SIGTERM)
    inbox.post(incoming("+15550001", "yesterday"), incoming("+15550002", "just now"))
    inbox.execute("""update sms.event set received_at = received_at - interval '61 minutes'
        where body = 'yesterday'""")
    inbox.worker("never")
    inbox.wait_states("sent", phone="+15550002")
    assert inbox.states("+15550001") == []
    assert inbox.execute("select count(*) from sms.dead_letter") == [(0,)]


def wait_done(inbox):
    """Until all claims are done."""
    wait_for("all to be done", lambda: inbox.execute(
        """select 1 from sms.consumer_lag where consumer = 'inbox-answers'
        and lag = 0 and leased = 0"""))


def test_in_office_hours_none(inbox, gateway):
    inbox.worker("always")
    inbox.post(incoming(ALICE, "Hi"))
    wait_done(inbox)
    assert inbox.states() == [] == gateway.calls


# A trigger that waits for a lock of the test's: when the reply is made, taken, and noted.
BARRIER = """
create function barrier() returns trigger language plpgsql as $$
begin
    perform pg_advisory_xact_lock(77, 0) where new.state = '{}';
    return new;
end $$;
create trigger barrier before insert or update of state on inbox.reply
    for each row execute function barrier()"""


@pytest.mark.parametrize("at, is_sent, state", [
    ("waiting", 1, "sent"),     # it was claimed: the claim comes again
    ("sending", 1, "sent"),     # the answer was committed: another worker takes it
    ("sent", 1, "sending"),     # the gateway has it, and the database never hears of it
    ("gateway", 1, "sending"),  # amid the call
])
def test_worker_killed(inbox, gateway, at, is_sent, state):
    """At each step of an automatic answer: it is sent once, and a second worker knows."""
    worker = inbox.worker("never")
    if at == "gateway":
        gateway.answer = gateway.hold
        inbox.post(incoming(ALICE, "Hi"))
        wait_for("the call", lambda: gateway.calls)
        worker.kill()
    else:
        inbox.execute(BARRIER.format(at))
        with inbox.example.cluster.connect(inbox.example.database) as c:
            c.execute("select pg_advisory_lock(77, 0)")
            inbox.post(incoming(ALICE, "Hi"))
            waiting = "select pid from pg_locks where locktype = 'advisory' and not granted"
            wait_for("the barrier", lambda: c.execute(waiting + " and classid = 77").fetchall())
            worker.kill()
            c.execute(f"select pg_terminate_backend(pid) from ({waiting}) x")
            wait_for("the session's end", lambda: not c.execute(waiting).fetchall())
        inbox.execute("drop trigger barrier on inbox.reply")
    gateway.answer = gateway.ok
    inbox.execute("update sms.lease set due_at = now()")  # instead of in a minute
    inbox.worker("never")
    inbox.post(incoming(ALICE, "Hello?"), incoming(BOB, "Hi"))
    inbox.wait_states("sent", phone=BOB)
    wait_done(inbox)
    wait_for(state, lambda: inbox.states(ALICE) == [state])
    assert len(gateway.sent_to(ALICE)) == is_sent
    if state == "sending":  # after a minute the agent sees it so, and may decide
        inbox.execute("update inbox.reply set due_at = due_at - interval '61 seconds'")
        text = inbox.send(f"?c={inbox.conversation(ALICE)}")[1]
        assert "may have been sent" in text and "Send again" in text


def test_two_workers_take_at_once(inbox, gateway):
    """While one is amid taking a reply, the other takes the next customer's."""
    inbox.post(incoming(ALICE, "Hi"), incoming(BOB, "Hi"))
    inbox.reply(ALICE), inbox.reply(BOB)
    inbox.execute(BARRIER.format("sending"))
    with inbox.example.cluster.connect(inbox.example.database) as c:
        c.execute("select pg_advisory_lock(77, 0)")
        inbox.worker(), inbox.worker()
        wait_for("both", lambda: c.execute(
            "select count(*) from pg_locks where not granted").fetchone() == (2,))
    inbox.wait_states("sent", "sent")
    assert sorted(c["sendto"] for c in gateway.calls) == sorted([ALICE, BOB])
    # and many, to each in their order
    inbox.execute("""insert into inbox.reply (conversation_id, body, author)
        select c.id, n::text, 'Anna' from inbox.conversation c, generate_series(1, 40) n""")
    inbox.wait_states(*["sent"] * 82)
    for phone in ALICE, BOB:
        assert [c["body"] for c in gateway.sent_to(phone)[1:]] == [str(n) for n in range(1, 41)]


def test_two_workers_and_kills(inbox, gateway):
    """Many customers, two workers, one of them killed again and again."""
    phones = [f"+1555{n:07}" for n in range(12)]
    inbox.worker("never")
    other = inbox.worker("never")
    for n in range(3):
        inbox.post(*(incoming(phone, f"SMS {n}") for phone in phones[4 * n:] + phones[:4]))
        other.kill()
        inbox.execute("update sms.lease set due_at = now()")
        other = inbox.worker("never")
    wait_done(inbox)
    wait_for("an answer to each", lambda: len(inbox.states()) == 12
             and "waiting" not in inbox.states())
    called = [c["sendto"] for c in gateway.calls]
    assert len(set(called)) == len(called)  # none twice
    assert len(called) >= 12 - inbox.states().count("sending")  # killed before its call


# -------------------------------------------------------------------- faults

def test_postgres_restarts(example, own_postgres, gateway, browser):
    inbox = Inbox(example("inbox", own_postgres), gateway)
    inbox.post(incoming(ALICE, "before"))
    worker = inbox.worker("never", AUTO_ANSWER="closed")
    inbox.wait_states("sent")
    page = inbox.open(browser, ALICE)
    gateway.answer = gateway.hold
    send(page, "amid")
    wait_for("the call", lambda: len(gateway.calls) == 2)
    own_postgres.stop()
    page.wait("#offline")
    assert inbox.send("")[0] == 503
    late = browser.page()
    late.open(inbox.url)
    late.wait("main.error", "The database cannot be reached now")
    inbox.post(incoming(ALICE, "while it was away"))  # into the spool
    gateway.held.set()  # the worker knows, and cannot tell
    own_postgres.start()
    page.wait("#live.live")
    page.wait("#thread p", "while it was away")
    wait_for("all", lambda: page.texts(".out .state") == ["handed over"] * 2)
    late.wait("#list .name", ALICE)  # by itself
    inbox.post(incoming(BOB, "after"))
    page.wait(".toast", "after")
    inbox.wait_states("sent", phone=BOB)
    assert [c["body"] for c in gateway.calls] == ["closed", "amid", "closed"]
    assert worker.running()
    page.close()
    late.close()


def test_server_restarts(inbox, browser):
    """The page finds back, and nothing is lost of what came meanwhile; nor is the draft."""
    inbox.post(incoming(ALICE, "before"))
    page = inbox.open(browser, ALICE)
    site = inbox.example.running[0]
    site.kill()
    page.wait("#offline")
    send(page, "a draft")
    page.wait(".toast.bad", "No connection")
    inbox.post(incoming(ALICE, "meanwhile"))
    inbox.example.launch([*PHP, "-S", f"127.0.0.1:{inbox.example.port}", "-t",
                          inbox.example.folder / "public"], {"PHP_CLI_SERVER_WORKERS": "8"})
    page.wait("#thread p", "meanwhile")
    page.wait_gone("#offline")
    page.reload()
    page.wait("#live.live")
    page.click("#reply button")
    page.wait(".out p", "a draft")
    page.close()


def test_answers_of_the_site(inbox):
    """Headers, and what is not there."""
    assert inbox.send("?c=1")[0] == inbox.send("nothing")[0] == inbox.send("reply")[0] == 404
    assert inbox.send("?c=abc")[0] == inbox.send("?c[]=1")[0] == 400
    assert inbox.send("?c=99999999999999999999")[0] == 400
    c = http.client.HTTPConnection("127.0.0.1", inbox.example.port, timeout=20)
    c.request("GET", "/")
    answer = c.getresponse()
    html = answer.read().decode()
    policy = answer.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.getheader("X-Content-Type-Options") == "nosniff"
    assert answer.getheader("Cache-Control") == "no-store"
    inbox.post(incoming(ALICE, "Hi"))
    inbox.reply()
    inbox.execute((inbox.example.folder / "schema.sql").read_text())  # changes nothing
    assert inbox.states() == ["waiting"] and inbox.conversation(ALICE) == 1
    assert not re.search(r"style=|<script>|\bon\w+=|https?://", html)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$",
                      (SOURCE / "examples/inbox/README.md").read_text(), re.M | re.S)


def replaced(text, changes):
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, str(new))
    return text


class Fpm(Nginx):
    """nginx and PHP-FPM by what the README says, with other paths."""

    def __init__(self, example, program):
        self.example, self.fpm = example, program
        super().__init__(example.folder.parent)

    def write(self):
        d = self.folder
        pool = replaced(blocks("ini")[0], {
            "user = inbox\ngroup = inbox\n": "", "listen.owner = www-data\n": "",
            "/run/php/inbox.sock": d / "fpm.sock", "env[PGDATABASE] = sms\n": "".join(
                f"env[{name}] = {self.example.environment[name]}\n"
                for name in ("PGHOST", "PGPORT", "PGDATABASE"))})
        write(d / "fpm.conf", f"[global]\nerror_log = /dev/stderr\n{pool}")
        self.pool = self.example.launch([self.fpm, "-F", "-y", d / "fpm.conf"])
        write(d / "fastcgi_params", Path("/etc/nginx/fastcgi_params").read_text())
        write(d / "htpasswd", "Ben:{PLAIN}secret\n")
        paths = "".join(f"{name}_temp_path {d}/{name};\n" for name in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        site = replaced(blocks("nginx")[0], {
            "443 ssl http2": f"127.0.0.1:{self.port}", "/srv/inbox": self.example.folder,
            "/etc/nginx/inbox.htpasswd": d / "htpasswd", "/run/php/inbox.sock": d / "fpm.sock"})
        write(d / "nginx.conf", f"""pid {d}/pid;\nerror_log {d}/error.log;\nevents {{ }}
            http {{ include /etc/nginx/mime.types;\naccess_log {d}/access.log;\n{paths}
            {site} }}""")

    def is_up(self):
        assert self.pool.running(), self.pool.text()
        return (self.folder / "fpm.sock").exists()


def test_behind_nginx(example):
    """As the README has it: the agent's name, and events that are not held up."""
    fpm = tool("php-fpm") or tool("php-fpm8.2")
    if not fpm:
        pytest.skip("PHP-FPM is not installed")
    inbox = example("inbox")
    server = Fpm(inbox, fpm)
    try:
        wait_for("PHP-FPM", lambda: server.is_up())
        base = f"http://127.0.0.1:{server.port}/"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with pytest.raises(urllib.error.HTTPError, match="401"):
            opener.open(base)
        opener.addheaders = [("Authorization", "Basic " + base64.b64encode(b"Ben:secret").decode()),
                             ("Sec-Fetch-Site", "same-origin")]
        assert b"<bdi class=\"agent\">Ben</bdi>" in opener.open(base).read()
        assert opener.open(base + "app.css").headers["Content-Type"] == "text/css"
        with opener.open(base + "events", timeout=20) as events:
            assert events.readline() == b"data: news\n"
            inbox.post(incoming(ALICE, "Hi"))
            wait_for("news", lambda: events.readline() == b"data: news\n")
        inbox.execute("select inbox.sync()")
        opener.open(base + "reply", urllib.parse.urlencode(
            {"c": 1, "body": "שלום", "key": new_key()}).encode())
        assert inbox.execute("select author, body from inbox.reply") == [("Ben", "שלום")]
    except Exception:
        print(server.errors(), server.pool.text())
        raise
    finally:
        server.stop()


def test_logs_say_nothing_private(inbox, gateway):
    inbox.post(incoming(PHONE, "I need help with my order"))
    inbox.worker("never", AUTO_ANSWER="Zitronenfalter")
    inbox.reply(PHONE, "Zitronenfalter")
    inbox.execute("alter table inbox.reply add constraint odd check (body <> 'Zitronen')")
    assert inbox.reply(PHONE, "Zitronen")[0] == 503
    inbox.wait_states("sent", "sent")
    told = "".join(p.text() for p in inbox.example.running)
    assert "SQLSTATE 23514" in told
    for secret in "Zitronen", "order", PHONE[3:], inbox.token:
        assert secret not in told


# ------------------------------------------------------------------ pictures

CLOSED = "Thank you. We are out of the office now, and answer when we are back."
TALKS = {
    "+447700900847": [
        (980, "in", "Hi, my parcel should have come yesterday. Order 20417."),
        (979, "inbox", CLOSED, "delivered"),
        (44, "Anna", "Hello! I have asked the driver: he is on his way, and rings within the "
                     "hour.", "delivered"),
        (6, "in", "He is here! Thanks for the quick help 🙏"),
        (3, "Anna", "Wonderful. Enjoy your lamp 💡", "sent"),
    ],
    "+493023125118": [(9, "in", "Can I change the delivery address of order 20431?"),
                       (7, "in", "To Lindenstraße 12, please.")],
    "+12025550163": [(16, "in", "שלום, איפה החבילה שלי? תודה!")],
    "+33639980457": [(42, "in", "Bonjour, la facture de ma commande 20398 est introuvable.")],
    "DHL": [(95, "in", "Your parcel 00340434161094 arrives today.")],
    "+12025550118": [(620, "in", "Are you open on Saturday?"),
                  (619, "inbox", CLOSED, "delivered"),
                  (150, "Ben", "Yes, from 10 to 14.", "delivered")],
    "+46701740612": [(1500, "in", "Das Ersatzteil passt, danke!"),
                      (1490, "Ben", "Das freut uns. Schönen Abend!", "delivered")],
    "+447700900482": [(4400, "in", "STOP"),
                      (4390, "Anna", "You get no more news from us.", "failed")],
}
SEEN = ("+447700900847", "+12025550118", "+46701740612", "+447700900482", "DHL")


def furnish(inbox):
    """A morning at the desk: the talks, with the times that they should have had."""
    n = 0
    for phone, talk in TALKS.items():
        inbox.post(*(incoming(phone, m[2]) for m in talk if m[1] == "in"))
    inbox.execute("select inbox.sync()")
    for phone, talk in TALKS.items():
        for minutes, who, text, *word in talk:
            at = f"now() - interval '{minutes} minutes'"
            if who == "in":
                inbox.execute(f"""update sms.event set received_at = {at}, occurred_at = {at}
                    where left(phone, 250) = %s and body = %s""", phone, text)
                continue
            n += 1
            inbox.execute(f"""insert into inbox.reply (conversation_id, body, author,
                    automatic_day, created_at, state, message_id)
                select id, %s, %s, case when %s = 'inbox' then current_date end, {at}, 'sent', %s
                from inbox.conversation where phone = %s""", text, who, who, f"m{n}", phone)
            inbox.post(status(f"m{n}", *word, phone=phone))
        inbox.execute(f"""update inbox.conversation
            set at = now() - interval '{min(m[0] for m in talk)} minutes' where phone = %s""",
            phone)
    inbox.execute("update inbox.conversation set unread = 0 where phone = any (%s)", list(SEEN))


def test_pictures(inbox, browser):
    furnish(inbox)
    for size, width in ("wide", 1280), ("phone", 390):
        for shade in "light", "dark":
            page = inbox.open(browser, "+447700900847", width=width, dark=shade == "dark")
            page.wait("#thread .out:last-child .state", "sent")
            if size == "wide":
                page.fill("#body", "By the way: here is your invoice")
            page.screenshot(f"inbox-{size}-{shade}")
            if size == "phone":
                page.click(".back")
                page.wait("#list .unread .name", "+493023125118")
                page.wait("#live.live")
                page.screenshot(f"inbox-phone-list-{shade}")
            assert errors(page) == []
            page.close()
    inbox.execute("update inbox.conversation set unread = 0")
    page = inbox.open(browser, "+447700900482")
    inbox.execute("""update inbox.reply set error = 'The number is not in service.',
        state = 'refused' where author = 'Ben'""")
    inbox.post(incoming("+33639981204", "Bonjour, avez-vous encore la lampe bleue ?"))
    page.wait(".toast")
    page.screenshot("inbox-toast")
    page.close()
