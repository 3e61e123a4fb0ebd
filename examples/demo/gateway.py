"""gateway.py: plays SmsGateWay24 and its customers' phones, for ./quickstart demo.

POST /getdata/addsms takes an SMS as the real gateway does, and tells what becomes of it by
webhooks to $SMSHOOK_URL; / shows the phones.  $PORT is where it listens, $SMS_GATEWAY_TOKEN
what addsms asks for, $SMS_NUMBER the number that customers text to, $DEMO_SECONDS the time
between two webhooks of invented customers (0: there are none), $DEMO_PACE that between two
of an SMS.
"""
import heapq
import http.client
import itertools
import json
import os
import random
import re
import signal
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
from collections import deque
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import customers

PAGE = Path(__file__).parent / "page"
FILES = {"/": ("index.html", "text/html"), "/app.js": ("app.js", "text/javascript"),
         "/style.css": ("style.css", "text/css"), "/icon.svg": ("icon.svg", "image/svg+xml")}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store"}
CODES = {"queued": (1, "New"), "sent": (6, "Sent"), "delivered": (7, "Delivered")}
FAILURES = {8: "Not sent", 9: "Not delivered", 10: "Refused by the operator",
            11: "The number does not exist", 12: "Expired", 100: "The device is offline",
            101: "No credit on the SIM"}
EXPIRED = 12  # what comes of an SMS to a phone that is off
LONGEST = 1600  # characters of an SMS
MOST_WAITING = 1000  # webhooks; then addsms takes no more


def log(text):
    print(datetime.now().strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


class Wrong(Exception):
    """What a request has to be told."""


def phone_in(form, name):
    """As smshook writes it."""
    phone = re.sub(r"^00", "+", re.sub(r"[\s().\-]", "", form.get(name, "")))
    if not re.fullmatch(r"\+?[0-9]{3,15}", phone):
        raise Wrong("A phone number has 3 to 15 digits, such as +12025550147")
    return phone


def text_in(form):
    text = form.get("body", "").replace("\r\n", "\n")
    if not text.strip():
        raise Wrong("The SMS is empty")
    if len(text) > LONGEST:
        raise Wrong(f"The SMS is longer than {LONGEST} characters")
    return text


class Feed:
    """What the page shows, from some way back: the newest of each kind."""

    def __init__(self):
        self.changed, self.last = threading.Condition(), 0
        self.kept = {"phone": deque(maxlen=500), "sms": deque(maxlen=2000),
                     "webhook": deque(maxlen=40)}

    def add(self, kind, **entry):
        entry["at"] = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        with self.changed:
            self.last += 1
            self.kept[kind].append((self.last, json.dumps({"type": kind, **entry})))
            self.changed.notify_all()

    def after(self, number, timeout):
        """Those with a greater number, in their order; none after the timeout."""
        with self.changed:
            self.changed.wait_for(lambda: self.last > number, timeout)
            return sorted(e for kept in self.kept.values() for e in kept if e[0] > number)


class Gateway:
    """Does what is due, one thing after the other: webhooks leave in the order of time."""

    def __init__(self, url):
        self.url, self.feed = url, Feed()
        self.ids = itertools.count(int(time.time() * 10))  # greater than those of earlier runs
        self.due, self.turns, self.changed = [], itertools.count(), threading.Condition()
        self.pace = float(os.environ.get("DEMO_PACE", "1.2"))  # seconds from sent to delivered
        self.off = set()  # phones
        self.reached = lambda phone: None  # called for each SMS that has reached a phone
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def after(self, seconds, action, *arguments):
        with self.changed:
            heapq.heappush(self.due, (time.monotonic() + seconds, next(self.turns),
                                      action, arguments))
            self.changed.notify()

    def next_action(self):
        with self.changed:
            while True:
                wait = self.due[0][0] - time.monotonic() if self.due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self.due)[2:]
                self.changed.wait(wait)

    def run(self):
        while True:
            action, arguments = self.next_action()
            try:
                action(*arguments)
            except Exception:  # in one webhook: the others are still to go
                log(traceback.format_exc())

    # ------------------------------------------------------------ webhooks

    def post(self, body):
        """Once, whatever is answered, as the real gateway does; true for a 200."""
        request = urllib.request.Request(self.url, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with self.opener.open(request, timeout=5) as answer:
                status, text = answer.status, answer.read(1000).decode(errors="replace")
        except urllib.error.HTTPError as e:
            status, text = e.code, e.read(1000).decode(errors="replace")
        except (OSError, http.client.HTTPException) as e:
            status, text = 0, f"no answer: {getattr(e, 'reason', e)}"
        if status != 200:
            log("a webhook is lost, for the gateway sends each only once: "
                f"{status or ''} {' '.join(text.split())[:200]}")
        self.feed.add("webhook", body=body, status=status, answer=text)
        return status == 200

    def send_status(self, sms_id, phone, word, failure=None):
        """In one of the dialects, of which the first cannot tell why an SMS failed."""
        dialect = random.choice(["event", "channel_id", "sim"][failure is not None:])
        now = datetime.now(timezone.utc)
        if dialect == "event":
            return self.post({"event": "delivery_status", "message_id": str(sms_id),
                              "phone": phone, "status": word, "timestamp": rfc3339(now),
                              "device_id": "device_xyz"})
        code, text = (failure, FAILURES[failure]) if failure else CODES[word]
        return self.post({"sms_id": sms_id, "status_id": code, "status_message": text,
                          "sendto": phone, "senttime": zoneless(now), dialect: 0,
                          "device_id": 10452})

    def send_incoming(self, phone, text):
        """What somebody has written on this phone."""
        sms = {"id": next(self.ids), "phone": phone, "way": "from", "text": text}
        self.feed.add("sms", **sms, state="sending")
        now, dialect = datetime.now(timezone.utc), random.choice(["event", "channel_id", "sim"])
        if dialect == "event":
            body = {"event": "incoming_sms", "phone": phone, "message": text,
                    "timestamp": rfc3339(now), "device_id": "device_xyz"}
        else:
            body = {"address": phone, "date": zoneless(now), "date_sent": zoneless(now),
                    "body": text, "internal_id": sms["id"] % 9973, "sms_id": sms["id"],
                    dialect: 0, "device_id": 10452, "device_name": "Front desk"}
        self.feed.add("sms", **sms, state="taken" if self.post(body) else "lost")

    # -------------------------------------------------- SMS of applications

    def add_sms(self, phone, text):
        """Its id; it is on its way now."""
        sms_id, seconds = next(self.ids), self.pace / 4
        for word in ("queued", "sent"):
            self.after(seconds, self.send_status, sms_id, phone, word)
            seconds += random.uniform(0.7, 1.3) * self.pace
        self.after(seconds, self.arrive, sms_id, phone, text)
        return sms_id

    def arrive(self, sms_id, phone, text):
        if phone in self.off:
            self.send_status(sms_id, phone, "failed", EXPIRED)
            return
        self.feed.add("sms", id=sms_id, phone=phone, way="to", text=text, state="delivered")
        self.send_status(sms_id, phone, "delivered")
        self.reached(phone)


def rfc3339(time):
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def zoneless(time):
    return time.strftime("%Y-%m-%d %H:%M:%S.%f")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self):
        path = self.path.partition("?")[0]
        if not self.is_local():
            self.answer(403, "Another website may not open this.")
        elif path == "/events":
            self.stream()
        elif path in FILES:
            name, kind = FILES[path]
            self.answer(200, (PAGE / name).read_text(encoding="utf-8"), kind)
        else:
            self.answer(404, "There is no such page.")

    def do_POST(self):
        actions = {"/getdata/addsms": self.add_sms, "/send": self.send, "/switch": self.switch}
        try:
            form = self.form()
            if self.path not in actions:
                raise Wrong("There is no such address")
            answer = {"error": 0, **actions[self.path](form), "message": "OK"}
        except Wrong as e:  # with a 200, as the real gateway does
            log(f"refused: {e}")
            answer = {"error": 1, "message": str(e)}
        self.answer(200, json.dumps(answer), "application/json")

    def add_sms(self, form):
        for name in ("token", "sendto", "body", "device_id"):
            if not form.get(name, "").strip():
                raise Wrong(f"The field {name} is missing")
        if form["token"] != self.server.token:
            raise Wrong("The token is wrong")
        if form.get("sim", "0") not in ("0", "1"):
            raise Wrong("The field sim must be 0 or 1")
        if len(self.server.gateway.due) > MOST_WAITING:
            raise Wrong("Too many SMS are waiting")
        return {"sms_id": self.server.gateway.add_sms(phone_in(form, "sendto"), text_in(form))}

    def send(self, form):
        """Somebody at the page writes an SMS, and from now on plays this customer."""
        phone, text = phone_in(form, "phone"), text_in(form)
        if phone in self.server.gateway.off:
            raise Wrong("This phone is off")
        self.server.invented.discard(phone)
        self.server.gateway.after(0, self.server.gateway.send_incoming, phone, text)
        return {}

    def switch(self, form):
        phone, is_on, gateway = phone_in(form, "phone"), form.get("on") == "1", self.server.gateway
        (gateway.off.discard if is_on else gateway.off.add)(phone)
        gateway.feed.add("phone", phone=phone, on=is_on)
        return {}

    # ---------------------------------------------------------------- HTTP

    def is_local(self):
        """Not by a name that another website has given to this address."""
        return self.headers.get("Host", "").rpartition(":")[0] in ("127.0.0.1", "localhost")

    def form(self):
        length = self.headers.get("Content-Length", "")
        site = self.headers.get("Sec-Fetch-Site", "none")
        if (not re.fullmatch(r"[0-9]{1,5}", length) or not self.is_local()
                or site not in ("none", "same-origin")):
            self.close_connection = True
            raise Wrong("Too long, or sent by another website")
        data = self.rfile.read(int(length)).decode(errors="replace")
        return {name: values[-1] for name, values in parse_qs(data).items()}

    def begin(self, status, kind):
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        for name, value in HEADERS.items():
            self.send_header(name, value)

    def answer(self, status, text, kind="text/plain"):
        self.begin(status, kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def stream(self):
        """Server-sent events: all that is kept, then what is new.  A page that connects
        again begins anew."""
        self.close_connection = True
        self.begin(200, "text/event-stream")
        self.end_headers()
        number, text = 0, json.dumps({"type": "setup", **self.server.setup})
        try:
            self.wfile.write(f"retry: 1000\ndata: {text}\n\n".encode())
            while True:
                entries = self.server.gateway.feed.after(number, 15)
                text = "".join(f"data: {entry}\n\n" for _, entry in entries)
                self.wfile.write((text or ": still here\n\n").encode())
                number = entries[-1][0] if entries else number
        except OSError:
            pass  # the page was closed

    def log_message(self, *_):
        """Not each request."""


class Server(ThreadingHTTPServer):
    daemon_threads, block_on_close = True, False
    request_queue_size = 64


def main():
    url = os.environ.get("SMSHOOK_URL", "")
    if not url.startswith(("http://", "https://")):
        sys.exit("gateway.py: SMSHOOK_URL must be the address of smshook, with its token")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    server = Server(("127.0.0.1", int(os.environ.get("PORT", "8190"))), Handler)
    server.gateway = gateway = Gateway(url)
    server.token = os.environ.get("SMS_GATEWAY_TOKEN", "demo")
    seconds = float(os.environ.get("DEMO_SECONDS", "1.5"))
    crowd = customers.Crowd(gateway, list(FAILURES))
    server.invented = crowd.invented
    pages = os.environ.get("DEMO_PAGES", "").split()  # NAME=ADDRESS, of the applications
    server.setup = {"number": os.environ.get("SMS_NUMBER", "+12025550199"),
                    "phones": customers.phones(seconds > 0),
                    "pages": dict(page.split("=", 1) for page in pages)}
    if seconds > 0:
        gateway.reached = crowd.reached
        threading.Thread(target=crowd.run, args=[max(seconds, 0.02)], daemon=True).start()
    threading.Thread(target=gateway.run, daemon=True).start()
    log(f"the phones are at http://127.0.0.1:{server.server_port}/")
    server.serve_forever()


if __name__ == "__main__":
    main()
