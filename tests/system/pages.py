"""A page of the documentation: its code, run in its order as a reader would."""
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

import postgres as pg
import receiver as rx
from drivers import Fcgi, post
from process import Process, new_folder, run, tool, wait_for, write
from servers import SOURCE, free_port

DOCS = SOURCE / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
USER = "helpdesk"


@dataclass
class Block:
    language: str
    text: str
    line: int


def blocks(markdown, languages=None):
    """Its fenced blocks, of these languages or of all.  Of all, code in any other
    form is refused: nobody would run it."""
    found = [Block(m[1], m[2], markdown.count("\n", 0, m.start()) + 1)
             for m in FENCE.finditer(markdown)]
    if languages:
        return [block for block in found if block.language in languages]
    for block in found:
        assert block.language, f"line {block.line}: a block without a language"
    rest = FENCE.sub("", markdown)
    assert "```" not in rest, "a fence that is indented or not closed"
    for line in rest.splitlines():
        assert not line.startswith(("    ", "\t")), f"code without a fence: {line}"
    return found


def is_shown(expected, output):
    """Line by line; ... on the page stands for anything, spaces at the end for
    nothing."""
    pattern = "\n".join(".*".join(re.escape(part) for part in line.rstrip().split("..."))
                        for line in expected.strip("\n").splitlines())
    lines = "\n".join(line.rstrip() for line in output.strip("\n").splitlines())
    return re.fullmatch(pattern, lines) is not None


def modules(package):
    """The folder that a package of Node's is in, or None."""
    folders = [*os.environ.get("NODE_PATH", "").split(":"),
               SOURCE / "build/node/node_modules", "/usr/share/nodejs"]
    return next((Path(f) for f in folders if f and Path(f, package).is_dir()), None)


def node_modules():
    return modules("pg")


def missing(language):
    """What has to be installed to run it, or None."""
    if language == "php" and not (tool("php") and b"pdo_pgsql" in run(["php", "-m"]).stdout):
        return "PHP with pdo_pgsql (php-cli, php-pgsql)"
    if language == "js" and not (tool("node") and node_modules()):
        return "Node and its package pg (node-pg)"
    return None


class Psql:
    """A session that is fed as if by hand: what it shows, block by block."""

    def __init__(self, folder, environment):
        self.process = Process(
            [f"{pg.program_folder()}/psql", "-X", "-q", "-v", "ON_ERROR_STOP=1"],
            new_folder(folder, "psql") / "shown", environment, stdin=subprocess.PIPE)
        self.count = 0

    def enter(self, sql):
        """What it shows until all of sql is done."""
        begin = len(self.process.text())
        self.count += 1
        mark = f"-- end {self.count} --\n"
        self.process.popen.stdin.write(f"{sql}\n\\echo {mark}".encode())
        self.process.popen.stdin.flush()

        def is_done():
            text = self.process.text()[begin:]
            assert self.process.running() or text.endswith(mark), text
            return text.endswith(mark)
        wait_for("psql", is_done)
        return self.process.text()[begin:].removesuffix(mark)

    def end(self):
        self.process.popen.stdin.close()
        assert self.process.wait() == 0, self.process.text()


class Program(Process):
    """A program of a page, which runs until it ends or is ended."""

    def wait_shown(self, text, times=1):
        def is_there():
            if self.text().count(text) >= times:
                return True
            assert self.running(), self.text()
            return False
        wait_for(f"{text!r} of a program", is_there)

    def finish(self, code=0):
        """It ends by itself; its output."""
        assert self.wait() == code, self.text()
        return self.text()


class Page:
    """Its blocks are taken one after the other; finish() sees that none is left.
    They share a database, and a receiver that events are posted to."""

    def __init__(self, path, cluster, database, receiver, token, folder,
                 languages=None):
        self.name, self.folder = path.name, new_folder(folder, "page")
        self.left = blocks(path.read_text(), languages)
        self.cluster, self.database = cluster, database
        self.receiver, self.token = receiver, token
        self.environment = {
            "PGHOST": str(cluster.folder), "PGPORT": "5432", "PGDATABASE": database,
            "PGUSER": USER, "PGTZ": "UTC", "PGCLIENTENCODING": "UTF8",
            "no_proxy": "*"}
        self.sessions, self.running, self.output = {}, [], ""
        self.missing = []

    # -------------------------------------------------------------- blocks

    def take(self, language):
        """The next block, which must be of this language."""
        assert self.left, f"{self.name} has no more blocks, but should have {language}"
        block = self.left.pop(0)
        assert block.language == language, \
            f"{self.name}:{block.line} is {block.language}; the test has {language} next"
        return block

    def is_next(self, language):
        return bool(self.left) and self.left[0].language == language

    def can_run(self, language):
        """Or else the next block is left out, which finish() tells."""
        lacks = missing(language)
        if lacks:
            self.take(language)
            self.missing.append(lacks)
        return not lacks

    def edit(self, old, new):
        """The next block, other than it stands on the page."""
        assert self.left[0].text.count(old) == 1, (self.name, old)
        self.left[0].text = self.left[0].text.replace(old, new)

    def shows(self, output=None):
        """The next block is what was put out."""
        block, output = self.take("text"), self.output if output is None else output
        assert is_shown(block.text, output), \
            f"{self.name}:{block.line} shows\n{block.text}\nbut there is\n{output}"

    def session(self, user=USER):
        if user not in self.sessions:
            self.sessions[user] = Psql(self.folder, {**self.environment, "PGUSER": user})
        return self.sessions[user]

    def enter(self, user=USER):
        """A block of SQL, with what was notified before it."""
        block = self.take("sql")
        self.output = self.session(user).enter(block.text)
        return self.output

    def sql(self, user=USER):
        """A block of SQL, and its output where the page shows one."""
        self.enter(user)
        if self.is_next("text"):
            self.shows()

    def notified(self, user=USER):
        """What psql shows of notifications with the next command."""
        self.shows(self.session(user).enter("do $$ begin end $$;"))

    def write_program(self, language):
        """The next block as a file: (command, its folder)."""
        name, command = {"php": ("program.php", ["php"]),
                         "python": ("program.py", [sys.executable]),
                         "js": ("program.mjs", ["node"])}[language]
        folder = new_folder(self.folder, language)
        if language == "js" and str(node_modules()).startswith("/usr/"):
            (folder / "node_modules").symlink_to(node_modules())
        elif language == "js":  # the plain user may not come near that folder
            shutil.copytree(node_modules(), folder / "node_modules")
        path = write(folder / name, self.take(language).text)
        return [*command, path], folder

    def program(self, language, *arguments, **environment):
        """The next block, started."""
        command, folder = self.write_program(language)
        return self.start([*command, *arguments], folder, **environment)

    def start(self, command, folder, **environment):
        self.running.append(Program(command, folder / f"log{len(self.running)}",
                                    {**self.environment, **environment}))
        return self.running[-1]

    def website(self, name):
        """The next block, PHP, as a page of a web server: its address."""
        _, folder = self.write_program("php")
        (folder / "program.php").rename(folder / name)
        port = free_port()
        server = self.start([tool("php"), "-d", f"session.save_path={folder}", "-d",
                             "display_errors=1", "-S", f"127.0.0.1:{port}", "-t", folder],
                            folder)
        server.wait_shown("started")
        return f"http://127.0.0.1:{port}/{name}"

    # -------------------------------------------------------------- events

    def post(self, *bodies):
        """Webhooks, each answered before the next; as dictionaries or bytes."""
        sender = Fcgi(self.receiver.address())
        for body in bodies:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = sender.send(post(self.token, body))
            assert answer.status == 200, answer

    def execute(self, sql, *values):
        """As the owner."""
        with self.cluster.connect(self.database) as c:
            cursor = c.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def wait_for_row(self, sql, *values):
        """Until a query has a row: its first."""
        return wait_for(sql, lambda: self.execute(sql, *values))[0]

    # ----------------------------------------------------------------- end

    def finish(self):
        assert not self.left, "no test runs " + ", ".join(
            f"{self.name}:{b.line} ({b.language})" for b in self.left)
        for session in self.sessions.values():
            session.end()
        if self.missing:
            pytest.skip("not installed: " + ", ".join(sorted(set(self.missing))))

    def stop(self):
        """By their process ids, however the test ended."""
        for process in self.running + [s.process for s in self.sessions.values()]:
            process.kill()


class Browser:
    """Keeps its cookies; answers as JSON."""

    def __init__(self, address):
        self.address = address
        # no proxy: this machine alone
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar()))

    def open(self, query="", data=None):
        with self.opener.open(self.address + query, data) as answer:
            return json.load(answer)


# ------------------------------------------------------------------ events

def incoming(phone, text, at="2026-01-15T10:31:00Z", **more):
    return {"event": "incoming_sms", "phone": phone, "message": text, "timestamp": at,
            "device_id": "device_xyz", **more}


def status(message_id, word, at="2026-01-15T10:30:00Z", phone="+1234567890"):
    return {"event": "delivery_status", "message_id": message_id, "phone": phone,
            "status": word, "timestamp": at, "device_id": "device_xyz"}


def open_page(path, cluster, database, start, token, folder, languages=None):
    """With the role that reads, and a schema of its own."""
    with cluster.connect(database) as c:
        if not c.execute("select 1 from pg_roles where rolname = %s", [USER]).fetchone():
            c.execute(f"create role {USER} login in role smshook_reader")
        c.execute(f"create schema {USER} authorization {USER}")
    text = rx.config_text(cluster.conninfo(database, "receiver"),
                          {"shop": f"token = {token}"})
    return Page(path, cluster, database, start(text), token, folder, languages)
