"""Ways to put one request to the receiver: each gives the same Answer."""
import base64
import http.client
import os
import select
import socket
import subprocess
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

import fcgi_client
import process

BASE = "/smshook"


@dataclass(frozen=True)
class Request:
    """path and query are as on the wire, path without BASE.  send: plain,
    chunked, expect (100-continue), or cut (10 bytes of the body are missing).
    length: a Content-Length that is no count of the body."""
    path: str
    body: bytes = b""
    method: str = "POST"
    query: str = None
    headers: tuple = ()
    send: str = "plain"
    length: str = None


@dataclass
class Answer:
    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    def header(self, name):
        return self.headers.get(name.lower())


def post(token, body, **more):
    return Request(f"/{token}", body, headers=(("Content-Type", "application/json"),),
                   **more)


def get(path):
    return Request(path, method="GET")


def basic(token, user="gateway"):
    return "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()


def content_length(request):
    """The header's value, None where there is none."""
    if request.send == "chunked":
        return None
    if request.length is not None:
        return request.length
    if request.send == "cut":
        return str(len(request.body) + 10)
    if not request.body and request.method not in ("POST", "PUT"):
        return None
    return str(len(request.body))


# ------------------------------------------------------- CGI and FastCGI

def cgi_variables(request):
    """The environment that RFC 3875 describes, as bytes."""
    env = {"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1",
           "SERVER_SOFTWARE": "tests", "SERVER_NAME": "localhost",
           "SERVER_PORT": "80", "REMOTE_ADDR": "127.0.0.1",
           "REQUEST_METHOD": request.method, "SCRIPT_NAME": BASE,
           "QUERY_STRING": request.query or ""}
    path = request.path
    env["REQUEST_URI"] = BASE + path + ("?" + request.query if request.query else "")
    for name, value in request.headers:
        name = name.upper().replace("-", "_")
        env["CONTENT_TYPE" if name == "CONTENT_TYPE" else "HTTP_" + name] = value
    length = content_length(request)
    if length is not None:
        env["CONTENT_LENGTH"] = length
    env = {k.encode(): v.encode("latin-1") for k, v in env.items()}
    if path:
        env[b"PATH_INFO"] = unquote_to_bytes(path)
    return env


def parse_cgi(output):
    """A CGI response (RFC 3875, section 6); None for no response at all."""
    if not output:
        return None
    head, _, body = output.partition(b"\r\n\r\n")
    headers = {}
    for line in head.decode().split("\r\n"):
        name, colon, value = line.partition(":")
        assert colon, f"not a header: {line!r}"
        assert name.lower() not in headers, f"{name} stands twice"
        headers[name.lower()] = value.strip()
    status = int(headers.pop("status", "200").split()[0])
    return Answer(status, headers, body)


class Cgi:
    """A process a request, as a web server starts it."""

    def __init__(self, program, config, log):
        self.program, self.config, self.log = program, config, log

    def send(self, request, arguments=(), env=None):
        variables = {k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}
        variables.update({"SMSHOOK_CONFIG": str(self.config)}, **(env or {}))
        variables = {k.encode(): v.encode() for k, v in variables.items()}
        variables.update(cgi_variables(request))
        with open(self.log, "ab") as log:
            done = subprocess.run(
                [str(self.program), *arguments], input=request.body, stdout=subprocess.PIPE,
                stderr=log, env=variables, cwd="/", timeout=2 * process.SLOW,
                **process.plain_user())
        assert done.returncode == 0, f"exit code {done.returncode}"
        return parse_cgi(done.stdout)


class Fcgi:
    """Records to the receiver's socket, a connection a request."""

    def __init__(self, address):
        self.address = address

    def send(self, request):
        with fcgi_client.Connection(self.address, 2 * process.SLOW) as c:
            return parse_cgi(c.ask(cgi_variables(request), request.body))


# ------------------------------------------------------------------ HTTP

def chunks(body, size=1000):
    parts = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in parts) + b"0\r\n\r\n"


def http_head(request, base=BASE):
    target = base + request.path + ("?" + request.query if request.query else "")
    lines = [f"{request.method} {target} HTTP/1.1", "Host: localhost",
             "Connection: close"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    length = content_length(request)
    if request.send == "chunked":
        lines.append("Transfer-Encoding: chunked")
    if request.send == "expect":
        lines.append("Expect: 100-continue")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines + ["", ""]).encode("latin-1")


class Http:
    """HTTP/1.1 by hand, to a web server at a port of this machine."""

    def __init__(self, port, base=BASE, source=None):
        self.port, self.base, self.source = port, base, source

    def send(self, request):
        with socket.create_connection(("127.0.0.1", self.port), 2 * process.SLOW,
                                      source_address=self.source) as s:
            try:
                self.write(s, request)
            except ConnectionError:
                pass  # answered before it had all
            return self.read(s, request)

    def write(self, s, request):
        s.sendall(http_head(request, self.base))
        if request.send == "expect":
            select.select([s], [], [], process.SLOW)
            if not s.recv(12, socket.MSG_PEEK).endswith(b" 100"):
                return
        s.sendall(chunks(request.body) if request.send == "chunked" else request.body)
        if request.send == "cut":
            s.shutdown(socket.SHUT_WR)

    def read(self, s, request):
        response = http.client.HTTPResponse(s, method=request.method)
        try:
            response.begin()
            body = response.read()
        except (http.client.HTTPException, ConnectionError):
            return None
        headers = {k.lower(): v for k, v in response.getheaders()}
        return Answer(response.status, headers, body)
