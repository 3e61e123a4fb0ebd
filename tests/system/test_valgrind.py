"""A request under valgrind: nothing read that was not written, nothing lost."""
import shutil
import signal

import pytest

import receiver as rx
from cases import DELIVERY, encode
from drivers import Cgi, Fcgi, post
from load import sms
from process import write

VALGRIND = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=99"]


@pytest.fixture
def under_valgrind(programs, top):
    """The folder of a program that runs the receiver under valgrind."""
    program = programs / "smshook.fcgi"
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed")
    if any(name in program.read_bytes() for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("the program has a sanitizer")
    folder = programs.with_name("valgrind")
    folder.mkdir(mode=0o755, exist_ok=True)
    write(folder / "smshook.fcgi",
          f"#!/bin/sh\nexec {' '.join(VALGRIND)} {program} \"$@\"\n", 0o755)
    return folder


def test_cgi(under_valgrind, text, token, database, top):
    log = write(top / "valgrind.log", "", 0o666)
    config = rx.write_config(top, text())
    cgi = Cgi(under_valgrind / "smshook.fcgi", config, log)
    for body, status in ((encode(DELIVERY), 200), (b'{"event":"x","message":"\\u0000"}', 200),
                         (b"{", 400), (b"{}", 422)):
        assert cgi.send(post(token, body)).status == status
    assert "==" not in log.read_text()


def test_fcgi(under_valgrind, text, token, top):
    r = rx.Receiver(under_valgrind, top, rx.write_config(top, text(server="threads = 4")))
    for i in range(5):
        assert Fcgi(r.address()).send(post(token, sms(f"h\u00e9 {i}"))).status == 200
    assert r.process.stop(signal.SIGTERM) == 0
    assert "==" not in r.log()
