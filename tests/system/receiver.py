"""The receiver under test: its programs, configuration and process."""
import os
import re
import signal
from pathlib import Path

import pytest

from canary import new_token  # noqa: F401
from process import Process, give, new_folder, wait_for, write

BUILD = Path(os.environ.get("SMSHOOK_BUILD", os.environ.get("top_builddir", ".")))
TOKEN = re.compile(r"^token\s*=\s*(\S+)", re.M)
REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:",
           "WARNING: ThreadSanitizer", "stack smashing", "unexpected signal")


def install(parent):
    """Copies both programs to where the plain user can run them, with what
    ThreadSanitizer must know about them."""
    folder = new_folder(parent, "bin")
    known = write(folder / "tsan.supp", Path(__file__).parent.with_name("tsan.supp").read_bytes())
    os.environ["TSAN_OPTIONS"] = os.environ.get("TSAN_OPTIONS", "") + f" suppressions={known}"
    folder.chmod(0o755)
    for name in ("smshook.fcgi", "smshook"):
        if not (BUILD / name).exists():
            pytest.exit(f"{BUILD / name} is not built (set SMSHOOK_BUILD)", 1)
        write(folder / name, (BUILD / name).read_bytes(), 0o755)
    return folder


def config_text(conninfo, sources, server="", database="timeout = 2s", log="debug"):
    """sources: {name: lines of its section}."""
    text = f"[server]\n{server}\n[database]\nconninfo = {conninfo}\n{database}\n"
    text += f"[log]\nlevel = {log}\n"
    for name, lines in sources.items():
        text += f"[source {name}]\n{lines}\n"
    return text


def write_config(folder, text, mode=0o600):
    """With a spool of its own beside it, unless the text names one."""
    place = new_folder(folder, "c")
    if "[spool]" not in text:
        text += f"[spool]\ndirectory = {new_folder(place, 'spool')}\n"
    return write(place / "smshook.conf", text, mode)


def spool_of(config):
    """The spool's folder that a configuration file names."""
    return Path(re.search(r"^directory\s*=\s*(\S+)", Path(config).read_text(), re.M)[1])


def check_log(text, config=""):
    """No sanitizer's report and none of the tokens is in a log."""
    for report in REPORTS:
        assert report not in text, text[-8000:]
    for token in TOKEN.findall(config):
        assert token not in text, "a token is in the log"


class Receiver:
    """smshook.fcgi as FastCGI; socket: where it listens, or a listening
    socket that it gets on fd 0."""

    def __init__(self, programs, parent, config, socket=None, stdin=None, env=None):
        self.folder = new_folder(parent, "r")
        self.config = Path(config)
        self.socket = socket or self.folder / "s"
        command = [programs / "smshook.fcgi", "-c", config]
        more = {"stdin": stdin} if stdin else {}
        if not stdin:
            command += ["-s", self.socket]
        self.process = Process(command, self.folder / "log", env, **more)
        wait_for("the receiver", self.is_ready)

    def is_ready(self):
        assert self.process.running(), self.log()
        return "listening on" in self.log()

    def log(self):
        return self.process.text()

    def address(self):
        """For Connection of fcgi_client."""
        if isinstance(self.socket, str):
            host, _, port = self.socket.rpartition(":")
            return (host.strip("[]"), int(port))
        return self.socket

    def reload(self, text=None):
        """Another configuration, and SIGHUP, until it says that it was taken."""
        if text is not None:
            write(self.config, text, 0o600)
        before = self.log().count(": reloaded\n")
        self.process.send(signal.SIGHUP)
        wait_for("the reload", lambda: self.log().count(": reloaded\n") > before)

    def stop(self, number=signal.SIGTERM):
        """Ends it, checks its log, returns its exit code."""
        code = self.process.stop(number)
        check_log(self.log(), self.config.read_text())
        return code
