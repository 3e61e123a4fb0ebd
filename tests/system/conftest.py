"""What the tests share: a folder, the programs, PostgreSQL, the web servers."""
import os
import signal

import pytest

import canary
import postgres as pg
import process
import receiver as rx
import servers
from browser import Browser
from cases import DRIVERS, SOURCES
from drivers import Cgi, Fcgi, Http
from examples import Example

# A terminated run stops what it started, as an interrupted one does.
for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, process.interrupt)


# --------------------------------------------------------------------- TAP
# With SMSHOOK_TAP_FD each test is a line of TAP there, for automake.

class Tap:
    def __init__(self, fd):
        self.out, self.n = os.fdopen(fd, "w", buffering=1), 0

    def line(self, ok, name, more=""):
        self.n += 1
        self.out.write(f"{'ok' if ok else 'not ok'} {self.n} - {name}{more}\n")

    def pytest_runtest_logreport(self, report):
        name = report.nodeid.replace("#", "_")
        if report.skipped:
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else ""
            self.line(True, name, " # SKIP " + reason.removeprefix("Skipped: "))
        elif report.failed or report.when == "call":
            self.line(report.passed, name)

    def pytest_collectreport(self, report):
        if report.failed:
            self.line(False, report.nodeid or "collection")

    def pytest_sessionfinish(self):
        self.out.write(f"1..{self.n}\n")


# What has a script of its own beside tests/system.sh: see tests/system/README.
PARTS = {"cases": ("test_cases",),
         "readers": ("test_consumers", "test_docs", "test_large", "test_migration", "test_readers",
                     "test_work"),
         "commands": ("test_check", "test_purge_command", "test_rejected", "test_sample", "test_tail",
                      "test_token_command"),
         "examples": ("test_demo", "test_example_inbox", "test_example_indicator",
                      "test_example_login")}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    seen = set()
    for item in items:
        for part, modules in PARTS.items():
            if item.module.__name__ in modules:
                item.add_marker(part)
        if item.get_closest_marker("examples") and item.module in seen:
            item.add_marker("long")  # all but the first of an example
        seen.add(item.module)
    if os.environ.get("SMSHOOK_FAST"):
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("long")])
        items[:] = [i for i in items if not i.get_closest_marker("long")]


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes its time")
    config.addinivalue_line("markers", "cases: the list of requests, in each way")
    config.addinivalue_line("markers", "readers: of applications that read")
    config.addinivalue_line("markers", "commands: of the command smshook")
    config.addinivalue_line("markers", "examples: of the applications in examples/")
    fd = os.environ.pop("SMSHOOK_TAP_FD", None)
    if fd:
        config.pluginmanager.register(Tap(int(fd)))


# ---------------------------------------------------------------- fixtures

@pytest.fixture(scope="session")
def top():
    """A folder for all that the run writes; goes with it."""
    folder = process.new_folder(os.environ.get("TMPDIR"), "smshook")
    folder.chmod(0o755)
    process.FOLDERS.append(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def no_log_tells(top):
    """At the very end, when all has stopped."""
    yield
    n, told = canary.search(top)
    assert not told, "\n".join([f"{len(told)} lines of {n} logs tell a secret:", *told[:20]])


@pytest.fixture(scope="session")
def programs(top):
    return rx.install(top)


@pytest.fixture(scope="session")
def postgres(top):
    cluster = pg.Postgres(top)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def migrate(programs, top):
    """migrate(conninfo) runs `smshook migrate`."""
    def run(conninfo, command="migrate"):
        config = rx.write_config(top, rx.config_text(conninfo, {"x": "token = unused-0123456789"}))
        return process.run([programs / "smshook", "-c", config, command])
    return run


def prepare(postgres, migrate):
    """The roles, and a database that the others are copies of: its name."""
    name = postgres.create()
    done = migrate(postgres.conninfo(name))
    assert done.returncode == 0, done.stderr.decode()
    roles = (servers.SOURCE / "sql/roles.sql").read_text()
    with postgres.connect(name) as c:
        c.execute(roles)
        c.execute("create role receiver login in role smshook_writer")
        c.execute("create role locked login password 'right' in role smshook_writer")
        c.execute("create role stranger login")
    return name


@pytest.fixture(scope="session")
def template(postgres, migrate):
    return prepare(postgres, migrate)


@pytest.fixture
def own_postgres(top, migrate):
    """A cluster with one database, for a test that stops it."""
    cluster = pg.Postgres(top)
    cluster.name = prepare(cluster, migrate)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def new_database(postgres, template):
    """new_database() makes one; all are closed at the end."""
    made = []

    def make():
        made.append(pg.Database(postgres, postgres.create(f"template {template}")))
        return made[-1]
    yield make
    for database in made:
        database.close()


@pytest.fixture(scope="module")
def database(new_database):
    return new_database()


@pytest.fixture
def token():
    return rx.new_token()


@pytest.fixture
def text(database, token):
    """text(**more) is a configuration for this module's database."""
    database.empty()

    def make(**more):
        return rx.config_text(database.writer, {"shop": f"token = {token}"}, **more)
    return make


@pytest.fixture
def locked(database):
    """Holds the lock of sms.ingest: nothing is committed until release()."""
    with database.postgres.connect(database.name) as c:
        c.execute("select pg_advisory_lock(%s)", [pg.INGEST_LOCK])
        c.release = lambda: c.execute("select pg_advisory_unlock(%s)", [pg.INGEST_LOCK])
        yield c


@pytest.fixture
def start(programs, top):
    """start(config text, ...) starts a receiver, which must stop cleanly."""
    started = []

    def run(text, **more):
        started.append(rx.Receiver(programs, top, rx.write_config(top, text), **more))
        return started[-1]
    yield run
    for r in started:
        if not r.process.ended():
            assert r.stop() == 0, r.log()
        else:
            rx.check_log(r.log(), r.config.read_text())


@pytest.fixture(scope="session")
def browser(top):
    b = Browser(top)
    yield b
    b.stop()


@pytest.fixture
def example(postgres, new_database, start, token, top):
    """example(NAME) sets up one of examples/; with own_postgres too where it is stopped."""
    made = []

    def make(name, cluster=None):
        database = cluster.name if cluster else new_database().name
        cluster = cluster or postgres
        receiver = start(rx.config_text(cluster.conninfo(database, "receiver"),
                                        {"shop": f"token = {token}"}))
        made.append(Example(name, cluster, database, receiver, token, top))
        return made[-1]
    yield make
    for one in made:
        one.stop()


class Site:
    """One receiver and one configuration, served in every way."""

    def __init__(self, programs, top, database):
        self.top, self.database = top, database
        self.program = programs / "smshook.fcgi"
        self.tokens = {s: (rx.new_token(), rx.new_token()) for s in SOURCES}
        self.text = rx.config_text(database.writer, {
            s: lines + "".join(f"token = {t}\n" for t in self.tokens[s])
            for s, lines in SOURCES.items()}, server="socket_mode = 0666")
        self.config = rx.write_config(top, self.text)
        self.receiver = rx.Receiver(programs, top, self.config)
        self.cgi_log = process.write(top / "cgi.log", "", 0o666)
        self.servers, self.started = {}, []
        self.ways = {
            "nginx": servers.Nginx, "apache-proxy": servers.ApacheProxy,
            "apache-fcgid": servers.ApacheFcgid, "apache-cgid": servers.ApacheCgid,
            "lighttpd": servers.Lighttpd}

    def start_server(self, name, socket=None):
        """A new one; without a socket in front of the common receiver."""
        server = self.ways[name](self.top, socket or self.receiver.socket, self.program,
                                 self.config)
        self.started.append(server)
        return server

    def server(self, name):
        if name not in self.servers:
            self.servers[name] = self.start_server(name)
        return self.servers[name]

    def driver(self, name):
        if name == "cgi":
            return Cgi(self.program, self.config, self.cgi_log)
        if name == "fcgi":
            return Fcgi(self.receiver.socket)
        return Http(self.server(name).port)

    def stop(self):
        for server in self.started:
            server.stop()
        for server in self.servers.values():
            rx.check_log(server.errors(), self.text)
        rx.check_log(self.cgi_log.read_text(), self.text)
        assert self.receiver.stop() == 0


@pytest.fixture(scope="session")
def site(programs, top, new_database):
    s = Site(programs, top, new_database())
    yield s
    s.stop()


# SMSHOOK_THREADS: only where there are some; a process a request has none.
@pytest.fixture(scope="session", params=[
    d for d in DRIVERS
    if not os.environ.get("SMSHOOK_THREADS") or d not in ("cgi", "apache-cgid")])
def driver_name(request):
    return request.param


@pytest.fixture(scope="session")
def driver(site, driver_name):
    return site.driver(driver_name)
