"""Processes of the tests: started as a plain user, ended by their own pid."""
import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import canary

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
SLOW = float(os.environ.get("SMSHOOK_TEST_PATIENCE", "30"))


def plain_user():
    """PostgreSQL and Apache refuse to be root: as root all run as nobody."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def give(path):
    """Hands a file or folder to the user that the processes run as."""
    user = plain_user()
    if user:
        os.chown(path, user["user"], user["group"])
    return Path(path)


def new_folder(parent=None, name="t"):
    """A folder of that user, with a short name: socket paths have 107 bytes."""
    return give(tempfile.mkdtemp(prefix=name + "-", dir=parent))


def write(path, content, mode=0o644):
    path = Path(path)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return give(path)


def tool(name):
    """The path of an installed program, or None."""
    return shutil.which(name, path=PATH)


def wait_for(what, true, timeout=None):
    """Waits until true() is, and returns its value."""
    end = time.monotonic() + (timeout or SLOW)
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {what}")
        time.sleep(0.01)


def run(args, timeout=None, **more):
    """One command to its end, as the plain user; output as bytes."""
    done = subprocess.run([str(a) for a in args], timeout=timeout or 2 * SLOW,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          cwd=more.pop("cwd", "/"), **plain_user(), **more)
    if Path(args[0]).name.startswith("smshook"):
        canary.SAID.append(done.stderr)
    return done


class Process:
    """A background process with a log file; its group dies with it."""

    all = []

    def __init__(self, args, log, env=None, **more):
        self.log = Path(log)
        self.log.touch()
        give(self.log)
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(
                [str(a) for a in args], stdin=more.pop("stdin", subprocess.DEVNULL),
                stdout=more.pop("stdout", out), stderr=out, cwd="/",
                env={**os.environ, **(env or {})}, start_new_session=True,
                **plain_user(), **more)
        Process.all.append(self)

    @property
    def pid(self):
        return self.popen.pid

    def running(self):
        """Does not reap it: its pid is its own until kill()."""
        return not self.ended() and os.waitid(
            os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def ended(self):
        """It was waited for: its exit code is known."""
        return self.popen.returncode is not None

    def text(self):
        return self.log.read_text(errors="replace")

    def send(self, number):
        if self.running():
            os.kill(self.pid, number)

    def wait(self, timeout=None):
        """Waits for its end and returns its exit code; kills what does not end."""
        try:
            wait_for("the end of a process", lambda: not self.running(), timeout)
        finally:
            self.kill()
        return self.popen.returncode

    def stop(self, number=signal.SIGTERM, timeout=None):
        self.send(number)
        return self.wait(timeout)

    def kill(self):
        """Ends it and all that it started, once."""
        if not self.ended():
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.popen.wait()


FOLDERS = []  # that must not outlive the run


@atexit.register
def end():
    """Whatever a test that failed, or was interrupted, has left."""
    for process in Process.all:
        process.kill()
    if "SMSHOOK_TEST_KEEP" not in os.environ:
        for folder in FOLDERS:
            shutil.rmtree(folder, ignore_errors=True)


def interrupt(_number, _frame):
    """Once: a second signal would cut off the tidying up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt
