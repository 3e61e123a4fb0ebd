"""The count that CGI requests leave each other in the spool: a hint, and no more."""
import json
import os

import pytest

import receiver as rx
from drivers import Cgi, get, post
from process import give, new_folder, write
from spooldir import Spool

MANY = 256
NAME = "01a2276a3fb87397a0edaf%010x.427"
BODY = b'{"event":"incoming_sms","phone":"+49151000","message":"%d"}'


class Away:
    """By CGI, without a database."""

    def __init__(self, programs, top, max_size="1GiB"):
        folder, self.token = new_folder(top, "y"), rx.new_token()
        self.spool = Spool(new_folder(folder, "spool"))
        config = rx.write_config(folder, rx.config_text(
            "host=/nonexistent dbname=x", {"shop": f"token = {self.token}"}, "",
            f"timeout = 2s\n[spool]\ndirectory = {self.spool.folder}\nmax_size = {max_size}"))
        self.sender = Cgi(programs / "smshook.fcgi", config, write(folder / "log", "", 0o666))
        self.tally, self.n = self.spool.folder / "count", 0
        assert self.post() == 200

    def post(self):
        self.n += 1
        return self.sender.send(post(self.token, BODY % self.n)).status

    def depth(self):
        return json.loads(self.sender.send(get("/healthz")).body)["spool_files"]

    def fill(self, n):
        for i in range(n):
            give(write(self.spool.folder / "new" / (NAME % i), ""))


def line(n_files, n_bytes, n_bad=0, valid_ms=10000):
    return f"{n_files:020} {n_bytes:020} {n_bad:020} {valid_ms:020}\n"


def test_count_is_left_and_used(programs, top):
    away = Away(programs, top)
    assert away.depth() == 1 and not away.tally.exists()
    away.fill(MANY)
    assert away.post() == 200
    assert away.tally.read_text().split()[:2] == [f"{MANY + 1:020}", f"{(MANY + 1) * 4096:020}"]
    give(write(away.tally, line(12345, 4096), 0o600))
    assert away.depth() == 12345
    assert away.post() == 200
    assert len(away.spool.names("new")) == MANY + 3


@pytest.mark.parametrize("text", [
    "", "\n", "x", line(7, 1)[:40], line(7, 1, valid_ms=10001), line(7, 1, valid_ms=0),
    line(7, 2**63), "7 1 0 -9223372036854775808\n", "7 1 0 -1\n", "\0" * 200,
    "9" * 200], ids=lambda text: f"{len(text)} bytes")
def test_bad_count_is_not_believed(text, programs, top):
    away = Away(programs, top)
    give(write(away.tally, text, 0o600))
    assert away.depth() == 1 and away.post() == 200


@pytest.mark.parametrize("age", [-3600, 11])
def test_old_count_is_not_believed(age, programs, top):
    away = Away(programs, top)
    give(write(away.tally, line(7, 4096), 0o600))
    then = away.tally.stat().st_mtime - age
    os.utime(away.tally, (then, then))
    assert away.depth() == 1


def test_count_near_the_limit_is_not_believed(programs, top):
    """That it is full is counted anew, and that a small one is not."""
    away = Away(programs, top)
    give(write(away.tally, line(7, 1 << 30), 0o600))
    assert away.post() == 200
    small = Away(programs, top, "64KiB")
    small.fill(15)
    give(write(small.tally, line(1, 4096), 0o600))
    assert small.post() == 503
