"""examples/demo: the gateway and the phones that stand in; and all of ./quickstart demo."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest

from canary import PHONE, TEXT, new_token
from pages import missing, modules
from process import FOLDERS, new_folder, wait_for
from servers import SOURCE

YOU, CUSTOMER, SECRET = "+12025550147", "+447700900312", new_token()
HARMLESS = "<script>alert(1)</script>"
TEXTS = [HARMLESS, "שלום, איפה ההזמנה שלי?", "👩‍👩‍👧 ☕️", "A" * 1600]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.fixture
def gateway(example):
    """gateway(...) starts it with this environment; without invented customers."""
    def run(**environment):
        e = example("demo")
        e.program = e.launch([sys.executable, e.folder / "gateway.py"], {
            "SMSHOOK_URL": e.webhook, "SMS_GATEWAY_TOKEN": SECRET, "DEMO_SECONDS": "0",
            "DEMO_PACE": "0.2", **environment})
        e.wait_up()
        return e
    return run


def post(url, fields, **headers):
    request = urllib.request.Request(url, urlencode(fields).encode(), headers)
    with opener.open(request, timeout=30) as answer:
        return json.load(answer)


def addsms(e, **fields):
    return post(f"{e.url}/getdata/addsms", {
        "token": SECRET, "sendto": CUSTOMER, "body": "Your order is on its way",
        "device_id": "10452", "sim": "0", **fields})


def words(e, sms_id):
    return [word for word, in e.execute(
        "select status from sms.delivery_status where message_id = %s order by id",
        str(sms_id))]


def test_an_sms_is_queued_sent_and_delivered(gateway):
    e = gateway()
    answers = [addsms(e, sendto="00 49 151-1234.5678", body=TEXT) for _ in range(12)]
    for answer in answers:
        assert answer["error"] == 0 and answer["message"] == "OK", answer
        wait_for("the delivery", lambda: len(words(e, answer["sms_id"])) == 3)
        assert words(e, answer["sms_id"]) == ["queued", "sent", "delivered"]
    assert e.execute("select distinct phone, status from sms.message") == [
        (PHONE, "delivered")]
    assert e.execute("""select bool_or(payload ? 'event'), bool_or(payload ? 'channel_id'),
        bool_or(payload ? 'sim') from sms.event""") == [(True, True, True)]
    assert e.program.stop(signal.SIGTERM) == 0, e.program.text()


def test_what_addsms_and_the_page_refuse(gateway):
    e = gateway()
    for fields, why in [
            ({"token": "wrong"}, "token is wrong"), ({"token": ""}, "field token"),
            ({"sendto": ""}, "field sendto"), ({"sendto": "Vodafone"}, "phone number"),
            ({"body": " "}, "field body"), ({"body": "x" * 1601}, "1600"),
            ({"device_id": ""}, "field device_id"), ({"sim": "2"}, "sim")]:
        answer = addsms(e, **fields)
        assert answer["error"] == 1 and why in answer["message"], (fields, answer)
    sms = {"phone": YOU, "body": "Hello"}
    for headers in ({"Sec-Fetch-Site": "same-site"}, {"Host": "example.org:80"}):
        assert post(f"{e.url}/send", sms, **headers)["error"] == 1
    assert post(f"{e.url}/send", sms)["error"] == 0
    wait_for("the one SMS", lambda: e.execute("select body from sms.incoming_sms"))
    assert e.execute("select kind from sms.event") == [("incoming_sms",)]


def test_a_webhook_is_sent_once_whatever_is_answered(gateway, browser):
    asked = []

    class Away(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_error(503)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Away)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    e = gateway(SMSHOOK_URL=f"http://127.0.0.1:{server.server_port}/smshook/{new_token()}")
    page = browser.page()
    page.open(e.url)
    page.fill("#text", "Is somebody there?")
    page.press("#text", "Enter")
    page.wait(".sms.from", "Lost")
    page.wait("#webhooks .lost", "503")
    addsms(e)
    wait_for("all four", lambda: e.program.text().count("only once: 503") == 4)
    assert len(asked) == 4
    server.shutdown()
    server.server_close()
    page.close()


def test_phones(gateway, browser):
    e = gateway(DEMO_PAGES="Inbox=http://127.0.0.1:1/")
    page = browser.page()
    page.open(e.url)
    page.wait("#name", "Your phone")
    assert page.text("#yours") == YOU and page.text("#number") == "+12025550199"
    page.click("text=VERIFY …")
    assert page.evaluate("document.activeElement.value") == "VERIFY "
    page.press("#text", "Enter")
    page.wait(".sms.from", "✓ Sent")
    assert e.execute("select phone, body, keyword from sms.incoming_sms") == [
        (YOU, "VERIFY", "VERIFY")]

    for text in TEXTS:
        page.fill("#text", text)
        page.click("#send")
        addsms(e, body=text, sendto=YOU)
    wait_for("what was written", lambda: sorted(
        body for body, in e.execute("select body from sms.incoming_sms")) ==
        sorted(["VERIFY", *TEXTS]))
    wait_for("what was sent", lambda: page.count(".sms.to") == len(TEXTS))
    assert sorted(page.texts(".sms.to p")) == sorted(TEXTS)
    assert sorted(page.texts(".sms.from p")) == sorted(["VERIFY", *TEXTS])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.fill("#other-phone", "+44 7700 900 312")
    page.press("#other-phone", "Enter")
    page.wait("#name", CUSTOMER)
    page.click(".switch")
    page.wait("#on-text", "Off")
    failed = addsms(e)["sms_id"]
    wait_for("its failure", lambda: words(e, failed) == ["queued", "sent", "failed"])
    assert e.execute("select status_text from sms.message where message_id = %s",
                     str(failed)) == [("Expired",)]
    page.wait("#webhooks .failed", "Failed: expired")
    page.click(".switch")
    page.wait("#on-text", "On")
    addsms(e, body="Here again")
    page.wait(".sms.to", "Here again")
    assert page.errors() == []
    page.reload()
    page.wait(".sms.to", "Here again")
    page.close()


def test_the_list_waits_while_a_webhook_is_open(gateway, browser):
    e = gateway()
    page = browser.page()
    page.open(e.url)
    page.fill("#text", "Is it ready?")
    page.press("#text", "Enter")
    page.click("#webhooks summary")
    for _ in range(20):
        addsms(e)
    page.wait("#more", "40 or more new")
    assert page.count("#webhooks li") == 1
    assert "Is it ready?" in page.text("#webhooks pre")
    page.click("#more")
    page.wait_gone("#more")
    wait_for("the newest", lambda: page.count("#webhooks li") == 40)
    page.close()


def test_who_writes_comes_up_below_your_phone(gateway, browser):
    e = gateway()
    page = browser.page()
    page.open(e.url)
    page.wait("#name", "Your phone")
    for phone in (CUSTOMER, "+493023125507", CUSTOMER):
        post(f"{e.url}/send", {"phone": phone, "body": "Hello"})
        wait_for("it above", lambda: page.texts(".row-name")[1] == phone)
    assert page.texts(".row-name") == ["Your phone", CUSTOMER, "+493023125507"]
    page.close()


def test_the_page_comes_back_with_the_gateway(gateway, browser):
    e = gateway()
    page = browser.page()
    page.open(e.url)
    page.wait("#name", "Your phone")
    e.program.stop()
    page.wait("#lost", "lost")
    page.fill("#text", "Hello")
    page.click("#send")
    page.wait("#error", "does not answer")
    assert page.evaluate("text.value") == "Hello"
    e.launch([sys.executable, e.folder / "gateway.py"], {"SMSHOOK_URL": e.webhook,
                                                         "DEMO_SECONDS": "0"})
    page.wait_gone("#lost")
    page.click("#send")
    page.wait(".sms.from", "✓ Sent")
    page.close()


def test_invented_customers(gateway, browser):
    """They write, order and answer; pictures of it."""
    e = gateway(DEMO_SECONDS="0.05")
    wait_for("all of them", lambda: e.execute(
        "select count(distinct phone) from sms.incoming_sms")[0][0] >= 12)
    wait_for("all that becomes of orders", lambda: e.execute(
        "select count(distinct status) from sms.message")[0][0] == 4)
    n, = e.execute("select count(*) from sms.event where duplicate_of is not null")[0]
    assert n == 0
    before = e.execute("select count(*) from sms.incoming_sms where phone = %s", CUSTOMER)
    addsms(e, body="It stands behind the door. Sorry!")
    wait_for("an answer to the reply", lambda: e.execute(
        "select 1 from sms.incoming_sms where phone = %s and body like 'Perfect%%'", CUSTOMER))
    assert e.execute("select count(*) from sms.incoming_sms where phone = %s", CUSTOMER) > before
    for name, width, dark in (("wide-light", 1280, False), ("wide-dark", 1280, True),
                              ("phone-light", 390, False), ("phone-dark", 390, True)):
        page = browser.page(width=width, dark=dark)
        page.open(f"{e.url}/#{CUSTOMER}")
        page.wait(".sms.to", "behind the door")
        page.wait("#webhooks li")
        page.screenshot(f"phones-{name}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.errors() == []
        page.close()


@pytest.mark.parametrize("name", ["phones", "login"])
def test_start_ends_what_it_started(name, example, top):
    """When told to; and with the folder of smshook, which ./quickstart down deletes."""
    e = example("demo" if name == "phones" else name)
    folder = new_folder(top, "quickstart")
    shutil.copytree(SOURCE / "examples", folder / "examples", copy_function=shutil.copy,
                    ignore=shutil.ignore_patterns("node_modules"))
    programs = new_folder(folder, "bin")

    def start():
        program = e.launch([folder / "examples/start", name], {
            "SMSHOOK_URL": e.webhook, "SMSHOOK_BIN": str(programs),
            "SMSHOOK_DSN": f"{e.cluster.conninfo(e.database)} port=5432"})
        e.wait_up()
        return program

    def is_taken():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", e.port)) == 0

    program = start()
    assert program.stop(signal.SIGTERM) == 0, program.text()
    assert not is_taken()
    program = start()
    shutil.rmtree(folder)
    assert program.wait() == 1, program.text()
    assert f"smshook is no longer running: {programs} is gone" in program.text()
    assert not is_taken()


# ------------------------------------------------------------- all of it

def is_source(folder, names):
    """Not what was built, wherever the tests run."""
    return [n for n in names if n in (".git", "build", "autom4te.cache", "node_modules", ".deps",
                                      "config.status", "Makefile", "__pycache__")
            or n.startswith("build-") and n != "build-aux" or n.endswith((".o", ".a"))]


class Demo:
    """./quickstart demo in a copy of the sources, as the user that runs the tests."""

    def __init__(self):
        for language in ("php", "js"):
            if missing(language):
                pytest.skip(f"not installed: {missing(language)}")
        self.folder = Path(tempfile.mkdtemp(prefix="smshook-clone-"))
        FOLDERS.append(self.folder)
        self.clone = self.folder / "smshook"
        shutil.copytree(SOURCE, self.clone, ignore=is_source, symlinks=True)
        pg = modules("pg")
        if not str(pg).startswith("/usr/"):  # as npm would install it
            shutil.copytree(pg, self.clone / "build/node/node_modules",
                            ignore=shutil.ignore_patterns("playwright-core"))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SMSHOOK_")}
        self.log, self.run = self.clone / "shown", None
        with open(self.log, "wb") as out:
            self.popen = subprocess.Popen([self.clone / "quickstart", "demo"], stdout=out,
                                          stderr=out, stdin=subprocess.DEVNULL, env=environment,
                                          start_new_session=True)

    def text(self):
        return self.log.read_text(errors="replace")

    def pages(self):
        """The addresses that it tells, when it is ready."""
        def ready():
            assert self.popen.poll() is None, self.text()
            return "Ctrl-C ends the demo" in self.text()
        wait_for("the demo", ready, 300)
        self.run = Path((self.clone / "build/quickstart/run").read_text().strip())
        return dict(re.findall(r"^  (\w+) +(http://\S+)  ", self.text(), re.M))

    def processes(self):
        """Those that have anything to do with its folder: {id: user id}."""
        found = {}
        for p in Path("/proc").glob("[0-9]*"):
            try:
                places = os.readlink(p / "cwd").encode() + b"".join(
                    (p / name).read_bytes() for name in ("cmdline", "environ"))
                if self.run and self.run.name.encode() in places:
                    found[p.name] = p.stat().st_uid
            except OSError:
                pass  # it has ended, or is another user's
        return found

    def stop(self, number=signal.SIGTERM):
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(120)


@pytest.fixture
def demo():
    d = Demo()
    yield d
    d.stop()
    for pid in d.processes():  # where the test has failed
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    shutil.rmtree(d.folder)


@pytest.mark.long
def test_quickstart_demo(demo, browser):
    """What a newcomer does with it; Ctrl-C leaves nothing."""
    urls = demo.pages()
    phones, indicator, inbox, login = (browser.page() for _ in range(4))
    phones.open(urls["phones"])
    indicator.open(urls["indicator"])
    inbox.open(urls["inbox"])
    login.open(urls["login"])
    assert sorted(phones.texts("nav a")) == ["Inbox", "Indicator", "Login"]
    assert demo.processes() and (os.geteuid() != 0 or 0 not in demo.processes().values())

    indicator.wait("#list li[data-status=delivered]")
    login.fill("#phone", YOU)
    login.press("#phone", "Enter")
    login.wait(".bubble")
    phones.fill("#text", login.text(".bubble"))
    phones.press("#text", "Enter")
    login.wait("h1", "You are signed in")

    question = f"Where is my order? {HARMLESS}"
    phones.fill("#text", question)
    phones.press("#text", "Enter")
    inbox.wait("#list .preview", question)
    inbox.click(f"#list li:has-text('{YOU}') a")
    inbox.wait("#thread .in", question)
    inbox.fill("#body", "It is on its way 🚚")
    inbox.click("#reply button")
    phones.wait(".sms.to", "It is on its way 🚚")
    inbox.wait("#thread .out", "delivered")
    for page in (phones, indicator, inbox, login):  # leaving a page ends its events
        assert [e for e in page.errors() if "ERR_ABORTED" not in e] == []
    for name, page in zip(("phones", "indicator", "inbox", "login"),
                          (phones, indicator, inbox, login)):
        page.screenshot(f"demo-{name}")

    env = subprocess.run([demo.clone / "quickstart", "env"], capture_output=True, text=True)
    assert f"SMSHOOK_BIN='{demo.run}/bin'" in env.stdout, env
    assert demo.stop(signal.SIGINT) == 0, demo.text()
    assert not demo.run.exists()
    assert demo.processes() == {}
    for page in (phones, indicator, inbox, login):
        page.close()
