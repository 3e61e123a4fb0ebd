"""examples/indicator: sent messages on a page, whose states change before the user's eyes."""
import http.client
import json
import os
import re
import signal
import socket
import time

import psycopg
import pytest

import process
from browser import PHONE, WIDE
from pages import blocks, status
from process import tool, wait_for, write
from servers import SOURCE, Nginx

README = SOURCE / "examples/indicator/README.md"
ROW = "#list > li"
NOTICE = """notify sms_event, '{"id":1,"kind":"delivery_status"}'"""
SCRIPT = "<script>alert(1)</script>"


def failed(message_id, reason, phone="+1234567890"):
    """As the gateway's reference has it."""
    return {"sms_id": message_id, "status_id": 8, "status_message": reason, "sendto": phone,
            "senttime": "2026-01-15 10:30:00", "channel_id": 1, "device_id": 7}


def edit(example, name, **values):
    """Another value of a constant in a file of the example's copy."""
    path = example.folder / name
    text = path.read_text()
    for constant, value in values.items():
        text, n = re.subn(rf"(?<=^const {constant} = )[^;]+", str(value), text, flags=re.M)
        assert n == 1, constant
    path.write_text(text)


def serve(example):
    server = example.launch([tool("node"), example.folder / "server.js"])
    example.wait_up()
    return server


@pytest.fixture
def indicator(example):
    """Without looks of its own accord: what is seen is seen by a notification, or after a
    new connection."""
    one = example("indicator")
    one.need_node("pg")
    edit(one, "server.js", LOOK_AGAIN=3_600_000)
    return one


def wait_row(page, message_id, state):
    page.wait(f'{ROW}[data-status="{state}"]', message_id)


def states(page):
    """What the rows say, in their order."""
    return [tuple(row) for row in page.evaluate(
        f"[...document.querySelectorAll('{ROW}')].map(row => ['.id', '.state']"
        ".map(part => row.querySelector(part).innerText))")]


def colour(page, selector):
    return [int(n) for n in re.findall(r"\d+", page.evaluate(
        f"getComputedStyle(document.querySelector('{selector}')).backgroundColor"))[:3]]


def listeners(example):
    """The backends of its connections."""
    return [pid for pid, in example.execute(
        "select pid from pg_stat_activity where application_name = 'indicator'"
        " and datname = current_database()")]


def get(example, path, method="GET", headers=None, read=True):
    connection = http.client.HTTPConnection("127.0.0.1", example.port, timeout=process.SLOW)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    answer.connection = connection
    if read:
        answer.text = answer.read().decode()
        connection.close()
    return answer


def health(example):
    return get(example, "/healthz").status


# ----------------------------------------------------------------- the promise

def test_row_turns_green_before_the_users_eyes(indicator, browser):
    serve(indicator)
    page = browser.page()
    assert page.open(indicator.url) == 200
    begin = time.monotonic()
    page.wait("#empty", "No messages yet")
    page.wait("#live", "Live")
    requests = page.requests()
    page.screenshot("indicator-empty-wide-light")

    indicator.post(status("abc123", "queued", "2026-01-15T10:29:57Z"))
    wait_row(page, "abc123", "queued")
    page.wait_gone("#empty")
    second = page.tab()
    second.open(indicator.url)
    wait_row(second, "abc123", "queued")
    for word in ("sent", "delivered"):
        indicator.post(status("abc123", word))
        wait_row(page, "abc123", word)
        wait_row(second, "abc123", word)
    page.wait("#said", "1 delivered")

    def is_green():
        red, green, blue = colour(page, f"{ROW} .state")
        return green > red and green > blue
    wait_for("the row to be green", is_green)
    assert "\u2022\u2022\u2022 7890" in page.text(ROW)
    assert "1234567890" not in page.evaluate("document.documentElement.outerHTML")

    indicator.post(status("def456", "sent"), failed(77, "No credit on the SIM"))
    wait_row(page, "def456", "sent")
    wait_row(page, "77", "failed")
    page.wait(f"{ROW} .reason", "No credit on the SIM")
    # a webhook that is late, and one after it
    indicator.post(status("abc123", "sent", "2026-01-15T10:31:00Z"), status("last", "queued"))
    wait_row(page, "last", "queued")
    expected = [("last", "Queued"), ("77", "Failed"), ("def456", "Sent"), ("abc123", "Delivered")]
    assert states(page) == expected
    assert [" ".join(text.split()) for text in page.texts("#counts li:visible")] == [
        "1 Queued", "1 Sent", "1 Delivered", "1 Failed"]

    # for 3 s the page has asked for nothing but itself and one stream
    time.sleep(max(0, begin + 3 - time.monotonic()))
    assert page.requests() == requests
    assert sorted(r.removeprefix(f"GET {indicator.url}/") for r in requests) in (
        ["", "events", "page.css", "page.js"], ["", "events", "icon.svg", "page.css", "page.js"])
    assert page.errors() == [] and second.errors() == []
    page.reload()
    wait_row(page, "last", "queued")
    assert states(page) == expected == states(second)


def test_numbers_are_masked_and_names_are_not(indicator, browser):
    serve(indicator)
    dots = "\u2022\u2022\u2022 "
    texts = {"+49/171/1234567": dots + "4567", "tel:+4915112345678": dots + "5678",
             "491512": dots + "1512", "0049 (30) 23125-118": dots + "5118",
             "7726": "7726", "Vodafone": "Vodafone", "Shop24680": "Shop24680",
             "1234567 \u05e9\u05dc": "1234567 \u05e9\u05dc"}
    indicator.post(status("none", "sent", phone=None),
                   *(status(f"m{n}", "sent") for n in range(len(texts))))
    for n, phone in enumerate(texts):  # as they are, whatever smshook makes of them
        indicator.execute("update sms.message set phone = %s where message_id = %s", phone, f"m{n}")
    indicator.execute(NOTICE)
    page = browser.page()
    page.open(indicator.url)
    page.wait(f"{ROW} .phone", "Vodafone")
    assert page.texts(f"{ROW} .phone") == [*reversed(texts.values()), ""]
    assert page.errors() == []


def test_texts_of_strangers_are_text(indicator, browser):
    serve(indicator)
    texts = {"\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd": SCRIPT,
             "<img src=x onerror=alert(1)>": "\u0645\u0631\u062d\u0628\u0627",
             "\U0001f680\U0001f469\u200d\U0001f4bb": "Vodafone", "w" * 200: "x" * 250}
    long_word = "<b>" + "z" * 1597
    indicator.post(*(status(name, "sent", phone=phone) for name, phone in texts.items()),
                   status("odd", long_word), failed("bad", SCRIPT + '"\'&amp;'))
    for page in browser.page(), browser.page(PHONE["width"]):
        page.open(indicator.url)
        wait_row(page, "odd", "unknown")
        for name, phone in texts.items():
            page.wait(f"{ROW} .id", name)
            page.wait(f"{ROW} .phone", phone)
        assert page.text('[data-status="unknown"] .reason') == long_word
        assert page.text('[data-status="failed"] .reason') == SCRIPT + '"\'&amp;'
        assert page.attribute(f"{ROW} .id", "dir") == "auto"
        assert page.count("#list script, #list img, #list b:not(.id)") == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.errors() == []
        page.screenshot(f"indicator-texts-{page.evaluate('innerWidth')}")


# -------------------------------------------------------------------- failures

class Front(Nginx):
    """nginx with the README's location."""

    stop_signal = signal.SIGTERM  # a stream has no end of its own

    def __init__(self, top, example):
        snippet, = blocks(README.read_text(), ["nginx"])
        file = write(example.folder.parent / "htpasswd", "agent:{PLAIN}right\n")
        for old, new in {"/etc/nginx/sms.htpasswd": str(file),
                         "127.0.0.1:8191": f"127.0.0.1:{example.port}"}.items():
            assert old in snippet.text, old
            snippet.text = snippet.text.replace(old, new)
        self.location = snippet.text
        super().__init__(top, example.receiver.socket)

    def write(self):
        super().write()
        path = self.folder / "nginx.conf"
        old = "location / { return 404; }"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, self.location))


def test_in_a_shop_behind_nginx_when_the_server_is_killed(indicator, browser, top):
    """As its README says: another messages.sql, the location; and answers of 502."""
    orders, = blocks(README.read_text(), ["sql"])
    indicator.execute("""
        create schema shop;
        create table shop.orders (number text primary key, phone text not null,
            message_id text, created_at timestamptz not null default now());
        insert into shop.orders values ('A-17', '+4930123456', 'abc123', now() - interval '1 min'),
            ('A-18', '+4930654321', 'def456', now());
        grant usage on schema shop to indicator;
        grant select on shop.orders to indicator""")
    (indicator.folder / "messages.sql").write_text(orders.text)
    server = serve(indicator)
    front = Front(top, indicator)
    try:
        page = browser.page()
        assert get(front, "/sms/").status == 401
        assert page.open(f"http://agent:right@127.0.0.1:{front.port}/sms/") == 200
        wait_row(page, "A-17", "waiting")
        indicator.post(status("abc123", "sent"))
        wait_row(page, "A-17", "sent")
        page.evaluate("window.mark = 'not reloaded'")

        server.stop(signal.SIGKILL)
        indicator.post(status("abc123", "delivered"), status("def456", "failed"))
        page.wait("#live", "Reconnecting")
        page.wait("#banner", "The connection is lost. What you see is as of ")
        assert "502" in str(page.errors())
        assert states(page) == [("A-18", "Waiting"), ("A-17", "Sent")]
        serve(indicator)
        wait_row(page, "A-17", "delivered")
        assert states(page) == [("A-18", "Failed"), ("A-17", "Delivered")]
        page.wait("#live", "Live")
        page.wait_gone("#banner")
        assert page.evaluate("window.mark") == "not reloaded"
    finally:
        front.stop()


def test_postgres_is_away(example, own_postgres, browser):
    indicator = example("indicator", own_postgres)
    indicator.need_node("pg")
    server = serve(indicator)
    page, early = browser.page(), browser.page(PHONE["width"])
    early.open(indicator.url)
    indicator.post(status("abc123", "sent"))
    wait_row(early, "abc123", "sent")
    assert health(indicator) == 200

    own_postgres.stop()
    early.wait("#banner", "The database cannot be reached. What you see is as of ")
    assert re.search(r"as of \d\d:\d\d:\d\d\.", early.text("#banner"))
    page.open(indicator.url)
    page.wait("#banner", "The database cannot be reached. What you see is as of ")
    assert states(page) == states(early) == [("abc123", "Sent")]
    assert health(indicator) == 503
    early.screenshot("indicator-away-phone-light")
    # a server that starts meanwhile knows nothing, and the page keeps what it has
    assert server.stop() == 0
    server = serve(indicator)
    page.wait("#live", "Reconnecting")
    page.wait("#live", "No database")
    assert "What you see is as of " in page.text("#banner")
    assert states(page) == [("abc123", "Sent")]
    indicator.post(status("abc123", "delivered"), status("def456", "queued"))  # to the spool

    own_postgres.start()
    for one in page, early:
        wait_row(one, "abc123", "delivered")
        wait_row(one, "def456", "queued")
        one.wait_gone("#banner")
        one.wait("#live", "Live")
    assert health(indicator) == 200


def test_a_connection_that_is_ended_is_made_anew_and_nobody_notices(indicator, browser):
    server = serve(indicator)
    page = browser.page()
    page.open(indicator.url)
    indicator.post(status("abc123", "sent"))
    wait_row(page, "abc123", "sent")
    page.evaluate("""window.banners = 0;
        new MutationObserver(() => window.banners++).observe(
            document.getElementById('banner'), {attributes: true, childList: true})""")

    server.send(signal.SIGSTOP)  # it cannot be there when the webhook comes
    old, = listeners(indicator)
    indicator.execute("select pg_terminate_backend(%s)", old)
    wait_for("the end of its connection", lambda: not listeners(indicator))
    indicator.post(status("abc123", "delivered"))
    server.send(signal.SIGCONT)
    wait_row(page, "abc123", "delivered")
    indicator.post(status("def456", "queued"))  # it listens again
    wait_row(page, "def456", "queued")
    assert page.evaluate("window.banners") == 0


def test_a_database_connection_that_is_dead_is_found(indicator, browser):
    """Its backend is stopped: nothing comes, and nothing says why."""
    edit(indicator, "server.js", LOOK_AGAIN=300)
    path = indicator.folder / "server.js"
    path.write_text(path.read_text().replace("query_timeout: 7_000", "query_timeout: 500"))
    serve(indicator)
    page = browser.page()
    page.open(indicator.url)
    page.wait("#live", "Live")
    backend, = listeners(indicator)
    os.kill(backend, signal.SIGSTOP)
    try:
        indicator.post(status("abc123", "sent"))
        wait_row(page, "abc123", "sent")
        assert backend in listeners(indicator)
    finally:
        os.kill(backend, signal.SIGCONT)
    # without a notification, too
    indicator.execute("update sms.message set status = 'delivered'")
    wait_row(page, "abc123", "delivered")


def test_a_server_that_is_silent_is_left(indicator, browser):
    """A connection that is dead without a word: a beat is due, and does not come."""
    edit(indicator, "server.js", BEAT=200)
    edit(indicator, "page.js", SILENCE=1500)
    server = serve(indicator)
    page = browser.page()
    page.open(indicator.url)
    page.wait("#live", "Live")
    time.sleep(1.7)  # beats keep it
    assert page.text("#live") == "Live"
    assert len([r for r in page.requests() if r.endswith("/events")]) == 1
    server.send(signal.SIGSTOP)
    page.wait("#live", "Reconnecting")
    indicator.post(status("abc123", "sent"))
    server.send(signal.SIGCONT)
    wait_row(page, "abc123", "sent")
    page.wait("#live", "Live")


def test_a_slow_browser_is_let_go_and_holds_up_nobody(indicator):
    server = serve(indicator)
    indicator.post(*(failed(n, "none yet") for n in range(100)))
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", indicator.port))
    slow.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    fast = get(indicator, "/events", read=False)
    end = time.monotonic() + process.SLOW
    for n in range(12):  # 0.8 MB each, more than sockets hold
        indicator.execute(f"update sms.message set status_text = repeat('\U0001f680', 1990) || {n}")
        indicator.execute(NOTICE)
        line = b""
        while f"\U0001f680{n}\"" not in line.decode():
            line = fast.readline()
            assert line and time.monotonic() < end, n
    fast.connection.close()
    slow.settimeout(process.SLOW)
    end = time.monotonic() + process.SLOW
    try:
        while slow.recv(1 << 20):
            assert time.monotonic() < end, "it is not let go"
    except ConnectionResetError:
        pass
    slow.close()
    assert server.running()


# ------------------------------------------------------------------- the server

def test_the_server_is_strict(indicator):
    edit(indicator, "server.js", MOST_STREAMS=2)
    server = serve(indicator)
    wait_for("the database", lambda: health(indicator) == 200)
    page = get(indicator, "/")
    assert page.status == 200 and page.headers["X-Content-Type-Options"] == "nosniff"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not re.search(r"\sstyle=|\son\w+=|https?:", page.text)
    assert get(indicator, "/", "HEAD").text == ""
    for path in ("/nothing", "/server.js", "/../server.js", "/constructor", "//", "/page.css/"):
        assert get(indicator, path).status == 404, path
    assert get(indicator, "/events", "POST").status == 405
    assert get(indicator, "/events", headers={"Sec-Fetch-Site": "cross-site"}).status == 403

    open_streams = [get(indicator, "/events", read=False) for _ in range(2)]
    assert {s.status for s in open_streams} == {200}
    assert open_streams[0].headers["Content-Type"] == "text/event-stream"
    assert get(indicator, "/events").status == 503
    open_streams.pop().connection.close()
    wait_for("a place", lambda: get(indicator, "/events", read=False).status == 200)

    assert server.stop() == 0
    text = open_streams[0].read().decode()  # to its end
    assert json.loads(re.match(r"event: list\ndata: (.*)\n\n", text)[1])["messages"] == []
    assert not listeners(indicator)


def test_its_role_reads_receipts_alone(indicator):
    schema = (indicator.folder / "schema.sql").read_text()
    indicator.execute("grant smshook_reader to indicator")  # as it once was
    indicator.execute(schema)
    with indicator.cluster.connect(indicator.database, "indicator") as c:
        c.execute((indicator.folder / "messages.sql").read_text())
        for sql in ("select from sms.incoming_sms", "select from sms.event",
                    "select sms.take_reply('x', '+4930', now(), '1 day')",
                    "select sms.drop_consumer('x')"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                c.execute(sql)


def test_the_list_of_a_long_log_is_found_by_index(indicator):
    """500 receipts and their messages, of 30,000."""
    indicator.execute("""
        insert into sms.event (id, received_at, source, kind, message_id, phone, status, ingest_id)
        select n, now(), 'shop', 'delivery_status', n / 3, '+4930' || n,
            (array['queued', 'sent', 'delivered'])[1 + n % 3], gen_random_uuid()
        from generate_series(1, 30000) n""")
    indicator.execute("""
        insert into sms.message (source, message_id, status, received_at, event_id)
        select 'shop', message_id, 'delivered', now(), max(id)
        from sms.event group by message_id""")
    indicator.execute("analyze sms.event, sms.message")
    query = (indicator.folder / "messages.sql").read_text()
    rows = indicator.execute(query)
    assert [row[1] for row in rows] == [str(n) for n in range(10000, 9900, -1)]
    plan = "\n".join(line for line, in indicator.execute(f"explain {query}"))
    assert "message_pkey" in plan and "Seq Scan" not in plan, plan


# --------------------------------------------------------------------- pictures

def test_screenshots(indicator, browser):
    serve(indicator)
    sent = [("order-20417", "delivered"), ("order-20418", "delivered"), ("order-20419", "delivered"),
            ("order-20420", "delivered"), ("order-20421", "failed"), ("order-20422", "delivered"),
            ("order-20423", "sent"), ("order-20424", "queued")]
    for n, (name, state) in enumerate(sent):
        phone = f"+4915{n}5550{n}4{(n * 37) % 90 + 10}"
        indicator.post(failed(name, "The number is not in service", phone)
                       if state == "failed" else status(name, state, phone=phone))
    indicator.execute("""update sms.message set received_at = received_at
        - (select interval '8 s' * (max(m.event_id) - sms.message.event_id) ^ 2
            from sms.message m)""")
    indicator.execute(NOTICE)
    for size, dark in ((WIDE, False), (WIDE, True), (PHONE, False), (PHONE, True)):
        page = browser.page(size["width"], dark=dark)
        page.open(indicator.url)
        page.wait(f"{ROW} time", "min ago")
        wait_row(page, sent[-1][0], "queued")
        assert len(states(page)) == len(sent)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        name = "wide" if size is WIDE else "phone"
        page.screenshot(f"indicator-{name}-{'dark' if dark else 'light'}")
        page.close()
