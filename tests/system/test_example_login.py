"""examples/login: who has texted VERIFY and the code goes on, and nobody else."""
import hashlib
import http.client
import itertools
import re
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from browser import BrowserPage
from canary import PHONE
from pages import blocks, incoming
from process import wait_for, write
from servers import SOURCE, Nginx

OTHER = "+4915112345999"
TO = "+49 30 1234567"
SIGNED_IN = "You are signed in"
minutes = itertools.count()


def sms(text, phone=PHONE):
    """No two are the same bytes: that would be a webhook that came twice."""
    n = next(minutes)
    return incoming(phone, text, f"2026-01-15T{n // 60:02}:{n % 60:02}:00Z")


class Login:
    def __init__(self, example, **environment):
        self.example, self.environment = example, {"SMS_NUMBER": TO, **environment}
        self.url, self.post, self.execute = example.url, example.post, example.execute
        self.start()

    def start(self):
        """Its process, which listens."""
        self.process = self.example.launch(
            [sys.executable, self.example.folder / "login.py"], self.environment)
        self.example.wait_up()
        self.process.wait_shown("listening to PostgreSQL")

    def ask(self, page, phone=PHONE, url=None):
        """On a page; the code that it shows."""
        page.open(url or self.url)
        page.fill("#phone", phone)
        page.click("text=Continue")
        page.wait(".bubble", "VERIFY")
        return page.text(".bubble").removeprefix("VERIFY ")

    def replies(self):
        """The texts that signed somebody in, in the order of their events."""
        return [text for text, in self.execute(
            "select e.body from login.attempt a join sms.event e on e.id = a.reply_id "
            "order by e.id")]

    def taken(self):
        return [text for text, in self.execute(
            "select e.body from sms.reply_taken t join sms.event e on e.id = t.event_id "
            "order by e.id")]

    def request(self, method="POST", path="/", data=None, **headers):
        """Without a browser: (status, headers, text)."""
        if method == "POST":
            headers = {"Sec-Fetch-Site": "same-origin", **headers}
        c = http.client.HTTPConnection("127.0.0.1", self.example.port, timeout=20)
        c.request(method, path, urlencode(data or {}) if method == "POST" else None,
                  {name.replace("_", "-"): value for name, value in headers.items()})
        answer = c.getresponse()
        text = answer.read().decode()
        c.close()
        return answer.status, answer.headers, text


def errors(page):
    """But that it left a page whose stream was open."""
    return [e for e in page.errors() if not ("/wait?" in e and "ERR_ABORTED" in e)]


@pytest.fixture
def login(example):
    return Login(example("login"))


@pytest.fixture
def page(browser):
    p = browser.page()
    yield p
    p.close()


@pytest.fixture
def second(browser):
    p = browser.page()
    yield p
    p.close()


def test_goes_on_by_itself(login, page):
    page.open(login.url)
    page.screenshot("login-ask-wide-light")
    code = login.ask(page, "0049 (151) 1234-5678")
    assert page.text("main .lead strong") == PHONE
    assert page.text(".to") == f"to {TO}"
    page.screenshot("login-wait-wide-light")
    assert page.reload() == 200
    page.wait(".bubble", code)
    login.post(sms(f" verify!  {code}. Thanks"))
    page.wait("h1", SIGNED_IN)
    assert sum("/wait?" in r for r in page.requests()) == 2  # it did not poll
    page.wait(".lead", PHONE)
    page.screenshot("login-in-wide-light")
    assert page.reload() == 200
    page.wait("h1", SIGNED_IN)
    page.click("text=Sign out")
    page.wait("#phone")
    page.back()
    page.wait("#phone")
    assert errors(page) == []
    assert all(r.split()[1].startswith(login.url) for r in page.requests())
    assert login.execute("select count(*) from login.session") == [(0,)]


def test_not_by_another_sms(login, page):
    login.post(sms("VERIFY 1000"))  # older than the question
    code = login.ask(page)
    login.execute("update login.attempt set code = '1000'")
    page.reload()
    page.wait(".bubble", "1000")
    login.post(sms("VERIFY 1000", OTHER), sms("1000"), sms("VERIFYING 1000"), sms("STOP 1000"),
               sms("VERIFY 2000"))
    page.wait(".notice", "without the right code")
    assert login.taken() == ["VERIFY 2000"]
    page.screenshot("login-other-wide-light")
    login.post(sms(f"VERIFY {code}"), sms("VERIFY 1000 please"))
    page.wait("h1", SIGNED_IN)
    assert login.replies() == ["VERIFY 1000 please"]
    assert errors(page) == []


def test_the_word_alone(login, page, second):
    """It will do where no other attempt can be meant."""
    login.post(sms("VERIFY"))  # older than the question
    login.ask(page)
    login.post(sms("Verify", OTHER), sms("verify!"))
    page.wait("h1", SIGNED_IN)
    login.ask(second)  # the first has ended
    login.post(sms("VERIFY please"))
    second.wait("h1", SIGNED_IN)
    assert login.replies() == login.taken() == ["verify!", "VERIFY please"]


def test_the_word_alone_of_two(login, page, second):
    """Nor is it for the one that is left when the other has ended."""
    code = login.ask(page)
    login.ask(second)
    login.post(sms("VERIFY"))
    for one in (page, second):
        one.wait(".notice", "without the right code")
    login.post(sms(f"VERIFY {code}"))
    page.wait("h1", SIGNED_IN)
    login.execute("update login.attempt set other_sms = false")
    second.reload()
    second.wait_gone(".notice")
    login.post(sms("VERIFY once more"))
    second.wait(".notice", "without the right code")
    # A slow one is not for who asks when the time of its attempt is over.
    login.execute("update login.attempt set until = asked_at, closes_at = asked_at")
    login.ask(second)
    login.post(sms("VERIFY at last"))
    second.wait(".notice", "without the right code")
    assert login.replies() == [f"VERIFY {code}"]


def test_exactly_once(login, page, second, browser):
    """Two browsers try with one number; a third has no cookie of theirs."""
    first_code, second_code = login.ask(page), login.ask(second)
    webhook = sms(f"VERIFY {first_code}")
    login.post(webhook)
    page.wait("h1", SIGNED_IN)
    login.post(webhook, sms(f"Verify {first_code} again"))  # the same once more, and another
    wait_for("both to be taken", lambda: len(login.taken()) == 2)
    second.reload()
    second.wait(".bubble", second_code)
    assert second.count(".notice:visible") == 0  # they have the code of another attempt
    stranger = browser.page()
    stranger.open(login.url)
    stranger.wait("#phone")
    assert PHONE not in stranger.text("body")
    stranger.close()
    login.post(sms(f"VERIFY {second_code}"))
    second.wait("h1", SIGNED_IN)
    assert login.replies() == [f"VERIFY {first_code}", f"VERIFY {second_code}"]
    assert login.execute("select count(*) from login.session") == [(2,)]


def test_two_tabs_and_another_number(login, page):
    """One attempt in both; what is given up signs in nobody."""
    given_up = login.ask(page)
    page.click("text=Use another number")
    page.wait("#phone")
    code = login.ask(page, OTHER)
    tab = page.tab()
    tab.open(login.url)
    tab.wait(".bubble", code)
    login.post(sms(f"VERIFY {given_up}"), sms(f"VERIFY {code}", OTHER))
    for one in (page, tab):
        one.wait("h1", SIGNED_IN)
        one.wait(".lead", OTHER)
        one.reload()
        one.wait("h1", SIGNED_IN)


def test_time_is_over(example, page, second):
    login = Login(example("login"), LOGIN_WITHIN="1 second")
    code = login.ask(page)
    page.wait("#status", "Time is over")
    login.post(sms(f"VERIFY {code}"))
    page.wait(".notice", f"Time is over: no SMS with VERIFY {code}")
    page.screenshot("login-over-wide-light")
    assert page.evaluate("document.querySelector('#phone').value") == PHONE
    assert login.replies() == []
    page.click("text=Continue")  # the number is still there
    page.wait(".bubble", "VERIFY")

    # One was received in time, and came late out of the spool.
    code = login.ask(second, OTHER)
    login.execute("update login.attempt set asked_at = now() - interval '1 hour', until = now() - "
                  "interval '1 second', closes_at = now() + interval '1 minute' "
                  "where phone = %s", OTHER)
    login.post(sms(f"VERIFY {code}", OTHER))
    login.execute("update sms.event set received_at = received_at - interval '1 minute'")
    login.post(sms("VERIFY", "+15550100"))  # it looks again
    second.wait("h1", SIGNED_IN)
    assert login.replies() == [f"VERIFY {code}"]


def test_without_javascript(login, browser):
    """The page asks again every few seconds."""
    page = BrowserPage(browser, browser.ask("open", None, {"javaScriptEnabled": False}))
    code = login.ask(page)
    login.post(sms(f"VERIFY {code}"))
    page.wait("h1", SIGNED_IN)
    page.close()


def test_breaks(example, own_postgres, page):
    """The listener's connection, the program and PostgreSQL, each while a page waits."""
    login = Login(example("login", own_postgres))
    code = login.ask(page)
    login.execute("select pg_terminate_backend(pid) from pg_stat_activity "
                  "where application_name = 'login'")
    login.post(sms(f"VERIFY {code}"))
    page.wait("h1", SIGNED_IN)
    assert "trying again" in login.process.text()

    page.click("text=Sign out")
    code = login.ask(page)
    login.process.stop(signal.SIGKILL)
    page.wait(".banner", "Connection lost")
    page.screenshot("login-lost-wide-light")
    login.post(sms(f"VERIFY {code}"))
    login.start()
    page.wait("h1", SIGNED_IN)

    page.click("text=Sign out")
    code = login.ask(page)
    own_postgres.stop()
    login.post(sms(f"VERIFY {code}"))  # into the spool
    assert login.request("GET")[0] == 503
    assert page.reload() == 503
    page.wait("h1", "One moment")
    own_postgres.start()
    page.wait("h1", SIGNED_IN)

    page.click("text=Sign out")
    seen = len(page.requests())
    login.ask(page)
    wait_for("a page that waits", lambda: "/wait?waiting" in str(page.requests()[seen:]))
    assert login.process.stop(timeout=10) == 0  # soon, with a stream that is open
    assert len(login.replies()) == 3


def test_typed_text_is_text(login, page):
    for text in ("<script>alert(1)</script>", "\u05e9\u05dc\u05d5\u05dd \U0001f44b", "+49",
                 "0171 1234567"):
        page.open(login.url)
        page.fill("#phone", text)
        page.click("text=Continue")
        page.wait(".notice", text)
        page.wait(".notice", "is not a phone number")
        assert page.evaluate("document.querySelector('#phone').value") == text
    page.screenshot("login-error-wide-light")
    assert not [e for e in page.errors() if "422" not in e]
    status, _, text = login.request(data={"phone": '"><b>' + 1600 * "x"})
    assert status == 422 and "&quot;&gt;&lt;b&gt;xxx" in text and 50 * "x" not in text
    assert login.request(data={"phone": 10000 * "x"})[0] == 413
    assert login.execute("select count(*) from login.attempt") == [(0,)]


def test_other_sites_and_strangers(login):
    number = {"phone": PHONE}
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": ""},
                    {"Sec_Fetch_Site": "", "Origin": "https://evil.example"},
                    {"Sec_Fetch_Site": "", "Origin": "null"}):
        for path in ("/", "/other", "/out"):
            assert login.request(path=path, data=number, **headers)[0] == 403
    assert login.request(data=number, Sec_Fetch_Site="", Origin=login.url)[0] == 303
    assert login.request("GET", "/../login.py")[0] == login.request(path="/x")[0] == 404
    assert login.request("BREW")[0] == 501
    status, headers, _ = login.request("GET")
    assert status == 200 and headers["Cache-Control"] == "no-store"
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    status, _, text = login.request("GET", "/wait?waiting")  # nothing to wait for
    assert status == 200 and "data: changed" in text


def test_cookies(login):
    """In the tables is what they cannot be told from."""
    _, headers, _ = login.request(data={"phone": PHONE})
    value, *more = headers["Set-Cookie"].split("; ")
    assert value.startswith("login-attempt=") and {"HttpOnly", "SameSite=Lax"} <= set(more)
    assert login.execute("select secret from login.attempt") == [
        (hashlib.sha256(value.partition("=")[2].encode()).digest(),)]
    login.execute("update login.attempt set reply_id = 1")
    status, headers, _ = login.request("GET", Cookie=value)
    ended, session = headers.get_all("Set-Cookie")
    assert status == 303 and "Max-Age=0" in ended and session.startswith("login-session=")
    assert value.partition("=")[2] not in session
    login.execute("update login.attempt set closes_at = now() - interval '1 second'")
    status, headers, text = login.request("GET", Cookie=value)  # not once more, later
    assert status == 200 and "login-session" not in str(headers) and "Sign in by SMS" in text
    login.execute("update login.attempt set closes_at = now() + interval '1 minute'")
    assert login.request(path="/other", Cookie=value)[0] == 303
    assert login.request("GET", Cookie=value)[0] == 200  # nor when it was given up
    _, headers, _ = login.request(data={"phone": PHONE}, X_Forwarded_Proto="https")
    assert headers["Set-Cookie"].startswith("__Host-login-attempt=")
    assert headers["Set-Cookie"].endswith("; Secure")


def test_limits(login):
    def ask(address, phone=PHONE):
        return login.request(data={"phone": phone}, X_Real_IP=address)[0]

    assert [ask("192.0.2.1") for _ in range(11)] == 10 * [303] + [429]
    assert [ask(f"2001:db8::{n}") for n in range(11)] == 10 * [303] + [429]
    assert ask("192.0.2.2") == 429  # the number has had 20
    assert ask("192.0.2.2", OTHER) == 303
    login.execute("update login.attempt set asked_at = asked_at - interval '11 minutes'")
    assert ask("192.0.2.1") == 303
    login.execute("update login.attempt set closes_at = now() - interval '61 minutes'")
    login.post(sms("VERIFY"))  # it looks
    wait_for("old attempts to go", lambda: login.execute(
        "select count(*) from login.attempt") == [(0,)])


def test_many_at_once(login):
    """Forty people wait; the SMS of half of them come at once."""
    numbers = [f"+1555010{n:04}" for n in range(40)]
    cookies = [login.request(data={"phone": number}, X_Real_IP=f"192.0.2.{n}")[1]["Set-Cookie"]
               for n, number in enumerate(numbers)]
    codes = dict(login.execute("select phone, code from login.attempt"))
    with ThreadPoolExecutor(60) as pool:
        streams = [pool.submit(login.request, "GET", "/wait?waiting", Cookie=c) for c in cookies]
        list(pool.map(lambda n: login.post(sms(f"VERIFY {codes[n]}", n)), numbers[:20]))
        try:
            wait_for("20 streams", lambda: sum(s.done() for s in streams) == 20)
        finally:
            login.process.stop()
    assert ["changed" in s.result()[2] for s in streams] == 20 * [True] + 20 * [False]
    assert len(login.replies()) == 20


class Front(Nginx):
    """nginx, as the README has it, but without TLS."""

    def __init__(self, top, port):
        readme = (SOURCE / "examples/login/README.md").read_text()
        self.site = re.sub("ssl_.*", "", blocks(readme, ["nginx"])[0].text).replace(
            "127.0.0.1:8193", f"127.0.0.1:{port}")
        super().__init__(top)

    def write(self):
        d = self.folder
        temporary = "".join(f"{name}_temp_path {d}/{name};\n"
                            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        write(d / "nginx.conf", f"""
pid {d}/pid;
error_log {d}/error.log;
events {{ }}
http {{
access_log off;
{temporary}
{self.site.replace("listen 443 ssl", f"listen 127.0.0.1:{self.port}")}
}}
""")


def test_behind_nginx(login, page, top):
    """Events are not held back, nor is what says which client it is."""
    front = Front(top, login.example.port)
    try:
        code = login.ask(page, url=f"http://127.0.0.1:{front.port}/")
        wait_for("the stream", lambda: "/wait?waiting" in str(page.requests()))
        login.post(sms(f"VERIFY {code}"))
        page.wait("h1", SIGNED_IN)
        assert login.execute("select client from login.attempt") == [("127.0.0.1/32",)]
        assert errors(page) == []
    finally:
        front.stop()


@pytest.mark.parametrize("width, dark", [(1280, True), (390, False), (390, True)])
def test_looks(login, browser, width, dark):
    name = f"{'wide' if width > 600 else 'phone'}-{'dark' if dark else 'light'}"
    page = browser.page(width=width, dark=dark)
    page.open(login.url)
    page.screenshot(f"login-ask-{name}")
    code = login.ask(page)
    page.screenshot(f"login-wait-{name}")
    assert page.attribute(".button", "href") == f"sms:+49301234567?&body=VERIFY%20{code}"
    assert page.count(".button:visible") == (width < 600)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    login.post(sms(f"VERIFY {code}"))
    page.wait("h1", SIGNED_IN)
    page.screenshot(f"login-in-{name}")
    assert errors(page) == []
    page.close()
