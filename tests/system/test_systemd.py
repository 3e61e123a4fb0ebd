"""The units of systemd/: what systemd-analyze says of them, and the receiver in
their sandbox.  `make matrix` runs them in a booted Debian."""
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ledger as lg
import sandbox
from harness import bench, breakable, health, listener  # noqa: F401
from process import Process, new_folder, tool, wait_for, write
from receiver import check_log
from servers import SOURCE, shipped

UNITS = SOURCE / "systemd"
SERVICE = UNITS / "smshook.service"

pytestmark = pytest.mark.skipif(not tool("systemd-analyze"), reason="no systemd-analyze")


def analyze(*arguments):
    done = subprocess.run([tool("systemd-analyze"), *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    if b"unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze is too old")
    for why in (b"Failed to create directory '/run/systemd", b"Cannot determine cgroup"):
        if why in done.stderr:
            pytest.skip(f"systemd-analyze does not work here: {done.stderr.decode()}")
    return done


@pytest.fixture
def units(programs):
    """Both units as files, the service with the program that was built."""
    folder = new_folder(programs.parent, "units")
    write(folder / "smshook.socket", (UNITS / "smshook.socket").read_text())
    write(folder / "smshook.service", shipped("systemd/smshook.service", {
        "/usr/lib/smshook/smshook.fcgi": programs / "smshook.fcgi"}))
    return sorted(folder.iterdir())


def test_verify(units):
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stderr.decode()) == (0, "")


def test_security(units):
    done = analyze("security", "--offline=true", "--threshold=12", units[0])
    assert done.returncode == 0, done.stdout.decode()


def test_socket_is_that_of_the_web_servers(units):
    s = sandbox.settings(units[1])
    assert s["ListenStream"] == ["/run/smshook/smshook.sock"]
    for name in ("nginx/smshook-http.conf", "lighttpd/smshook.conf", "apache/smshook-proxy.conf"):
        assert s["ListenStream"][0] in (SOURCE / name).read_text(), name


# ------------------------------------------------------------- the sandbox

@pytest.fixture
def confined(programs, top):
    """confined(writable folder, command, ...) starts a command in the sandbox."""
    pytest.importorskip("seccomp")
    if re.search(rb"__[at]san_init", (programs / "smshook.fcgi").read_bytes()):
        pytest.skip("a sanitizer needs more than the sandbox gives")
    folder, started = new_folder(top, "sandbox"), []
    script = write(folder / "sandbox.py", Path(sandbox.__file__).read_bytes())

    def start(writable, command, **more):
        log = folder / f"log{len(started)}"
        stdin = {"stdin": more.pop("stdin")} if "stdin" in more else {}
        what = write(folder / f"unit{len(started)}",
                     json.dumps(sandbox.unit(SERVICE, writable, **more)))
        started.append(Process([sys.executable, script, what, *command], log, **stdin))
        return started[-1]

    probe = start(folder, ["/bin/true"])
    if probe.wait() and "Operation not permitted" in probe.text():
        pytest.skip("a plain user may have no user namespace here")
    assert probe.popen.returncode == 0, probe.text()
    yield start
    for process in started:
        process.kill()


class Service:
    """The receiver as the unit runs it, with its listener on fd 0."""

    def __init__(self, bench, listener, confined, **more):  # noqa: F811
        self.process = confined(bench.spool.folder, [
            bench.programs / "smshook.fcgi", "-c", bench.config], stdin=listener, **more)
        self.address = listener.getsockname()
        wait_for("the receiver", self.is_ready)

    def is_ready(self):
        assert self.process.running(), (self.process.wait(), self.process.text())
        return "listening on fd 0" in self.process.text()

    def sender(self):
        return lg.Fcgi(self.address, keep=False)


def test_receiver_in_the_sandbox(bench, listener, confined):  # noqa: F811
    """Stores, spools, drains, reloads and ends, and makes no call that the unit
    does not allow: it would be killed."""
    service = Service(bench, listener, confined, kill=True)
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    for line in (r"NoNewPrivs:\t1", r"Seccomp:\t2", r"Cap(Prm|Eff|Bnd|Amb):\t0+", "Umask:\t0077"):
        assert re.search(f"^{line}$", status, re.M), status
    bench.send(service.sender(), times=10, with_rejects=True)
    assert bench.ledger.results() == {"stored": 9}
    bench.cluster.stop(signal.SIGQUIT)
    bench.send(service.sender(), times=10)
    assert bench.ledger.results()["spooled"] == 10
    assert health(service.address)[1]["database"] == "down"
    bench.cluster.start()
    bench.wait_drained()
    # Names of hosts are looked up, a new configuration and a new token are read.
    good, old = bench.config.read_text(), bench.token
    bench.token = old[::-1]
    write(bench.config, re.sub("conninfo = .*", "conninfo = host=localhost port=1 user=x", good)
          .replace(old, bench.token), 0o600)
    reload(service, bench, "spooled")
    write(bench.config, good.replace(old, bench.token), 0o600)
    reload(service, bench, "stored")
    bench.check_all_kept()
    assert service.process.stop() == 0, service.process.text()
    check_log(service.process.text(), good + bench.config.read_text())


def reload(service, bench, result):  # noqa: F811
    """SIGHUP, until a request has that result."""
    service.process.send(signal.SIGHUP)
    sender, n = lg.Fcgi(service.address, keep=False), 0

    def is_there():
        entry, request = bench.ledger.request(bench.token, 0)
        answer = sender.send(request)
        entry.answered_at, entry.status = entry.sent_at + 0.1, answer.status
        entry.answer = json.loads(answer.body)
        if answer.status == 401:  # not yet
            del bench.ledger.entries[entry.uid]
        return entry.answer.get("result") == result
    wait_for(f"a reload after which requests are {result}", is_there)


def test_filter_is_a_filter(bench, listener, confined):  # noqa: F811
    """Were fsync not allowed, it would not even start."""
    with pytest.raises(AssertionError, match="cannot fsync a directory"):
        Service(bench, listener, confined, without=["fsync"])


PROBE = """
import ctypes, errno, mmap, os, socket, sys
calls = {
	"write beside the state": lambda: open(sys.argv[1], "w"),
	"netlink": lambda: socket.socket(socket.AF_NETLINK),
	"packets": lambda: socket.socket(socket.AF_PACKET),
	"code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
	"chown": lambda: os.chown(sys.argv[2], 1, 1),
	"nice": lambda: os.nice(-1),
	"ptrace": lambda: call(101, 16, os.getppid()),
	"namespace": lambda: call(272, 0x10000000),
	"keys": lambda: call(248),
}
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
	if libc.syscall(*arguments) < 0:
		raise OSError(ctypes.get_errno(), "")
open(sys.argv[2] + "/works", "w")
for name, function in calls.items():
	try:
		function()
		print(name, "is allowed")
	except OSError as e:
		print(name, errno.errorcode[e.errno])
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls by number")
def test_sandbox_holds(top, confined):
    """What the unit forbids cannot be done in it."""
    state, outside = new_folder(top, "state"), new_folder(top, "outside")
    probe = confined(state, [sys.executable, "-c", PROBE, outside / "x", state])
    probe.wait()
    assert probe.text().splitlines() == [
        "write beside the state EROFS", "netlink EAFNOSUPPORT", "packets EAFNOSUPPORT",
        "code EPERM", "chown EPERM", "nice EPERM", "ptrace EPERM", "namespace EPERM",
        "keys EPERM"]
