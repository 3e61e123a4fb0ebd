"""What is compared: each contender, how it is started, and what stands in front of
and behind all of them, one nginx and one PostgreSQL."""
import collections
import contextlib
import glob
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import postgres as pg
import receiver as rx
import servers
from conftest import prepare
from process import FOLDERS, Process, new_folder, run, tool, wait_for, write
from spooldir import Spool

HERE = Path(__file__).parent
BUILD = rx.BUILD
TICKS = os.sysconf("SC_CLK_TCK")

# Beside its defaults; no checkpoint falls into a measurement of one contender.
POSTGRES = {"fsync": "on", "synchronous_commit": "on", "shared_buffers": "4GB",
            "min_wal_size": "3GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min",
            "max_connections": "300"}
WAL_MB = 3000  # bench/run has less where it measures for a moment


class Missing(Exception):
    """What cannot be run here, and the line that mends it."""


def need(program, package=None):
    path = tool(program)
    if not path:
        raise Missing(f"{program} is not installed: apt-get install {package or program}")
    return path


class Postgres(pg.Postgres):
    """That keeps its word.  preload: a library that stands before its fsync."""

    def __init__(self, parent, preload=None):
        self.env = {"LD_PRELOAD": str(preload)} if preload else {}
        super().__init__(parent)

    def start(self):
        options = [a for name, value in POSTGRES.items() for a in ("-c", f"{name}={value}")]
        self.process = Process([f"{self.programs}/postgres", "-D", self.data, *options],
                               self.folder / "server.log", self.env)
        wait_for("PostgreSQL", self.is_up, 120)

    def age(self):
        """Its WAL is in files that were there before, as on a server that has run for a
        while: a new one is 16 MB of zeros and a flush, for which all wait 40 ms."""
        with self.connect("postgres") as c:
            c.execute("""select count(pg_logical_emit_message(false, 'age', repeat(' ', 1000000)))
                from generate_series(1, %s)""", [WAL_MB])
            c.execute("checkpoint")


class Pgbouncer:
    """In front of it, in transaction mode, as for processes that come and go."""

    def __init__(self, parent, cluster):
        self.folder = new_folder(parent, "b")
        users = write(self.folder / "users", '"receiver" ""\n"peer" ""\n')
        ini = write(self.folder / "ini", f"""[databases]
* = host={cluster.folder}
[pgbouncer]
listen_addr =
unix_socket_dir = {self.folder}
listen_port = 5432
auth_type = trust
auth_file = {users}
pool_mode = transaction
ignore_startup_parameters = extra_float_digits
""")
        Process([need("pgbouncer"), ini], self.folder / "log")
        wait_for("pgbouncer", lambda: (self.folder / ".s.PGSQL.5432").exists())


# ------------------------------------------------------------------- nginx

def fastcgi(name, sockets, keep=True, params=None):
    """The shipped files for nginx under another name: (http, server)."""
    http, server = ((servers.SOURCE / f"nginx/{file}").read_text()
                    for file in ("smshook-http.conf", "smshook.conf"))
    upstream = "server unix:/run/smshook/smshook.sock;"
    assert upstream in http
    if not keep:
        server = server.replace("fastcgi_keep_conn on;", "")
        http = "\n".join(line for line in http.split("\n") if "keepalive" not in line)
    lines = "".join(f'fastcgi_param {k} "{v}";\n' for k, v in (params or {}).items())
    http, server = (
        text.replace(upstream, "SERVERS").replace("smshook", name) for text in (http, server))
    return (http.replace("SERVERS", "".join(f"server unix:{s};" for s in sockets)),
            server.replace("include fastcgi_params;", f"include fastcgi_params;\n{lines}"))


def proxy(name, address, path):
    """The same for HTTP, with the settings of the shipped files."""
    return (f"""upstream {name} {{ server {address}; keepalive 64; keepalive_timeout 30s; }}
log_format {name} '$remote_addr - - [$time_local] "$request_method /{name}/*** $server_protocol" '
	'$status $body_bytes_sent "-" "$http_user_agent" '
	'$request_length $request_time $upstream_status $upstream_response_time';
""", f"""location ^~ /{name}/ {{
	proxy_pass http://{name}{path};
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	client_max_body_size 64k;
	client_body_buffer_size 64k;
	client_body_timeout 10s;
	proxy_ignore_client_abort on;
	access_log /var/log/nginx/{name}.access.log {name};
	error_log /dev/null emerg;
}}
""")


class Nginx(servers.Nginx):
    def __init__(self, parent, parts):
        self.parts = parts
        super().__init__(parent)

    def write(self):
        d = self.folder
        write(d / "fastcgi_params", Path("/etc/nginx/fastcgi_params").read_text())
        http, server = ("\n".join(texts).replace("/var/log/nginx", str(d))
                        for texts in zip(*self.parts))
        temporary = "".join(f"{kind}_temp_path {d}/{kind};\n" for kind in (
            "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        write(d / "nginx.conf", f"""
pid {d}/pid;
error_log {d}/error.log;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
	{temporary}
	{http}
	server {{
		listen 127.0.0.1:{self.port};
		access_log off;
		keepalive_requests 100000000;
		{server}
	}}
}}
""")


# -------------------------------------------------------------- contenders

class Contender:
    """Started on a stand: its processes, and its part of nginx's configuration."""

    def __init__(self, stand, name):
        self.name, self.folder, self.processes = name, new_folder(stand.top, "c"), []
        self.socket = self.folder / "s"
        self.stand = stand

    def start(self, args, env=None, is_ready=None):
        self.processes.append(Process(args, self.folder / f"log{len(self.processes)}", env))
        wait_for(self.name, is_ready or self.socket.exists)
        assert self.processes[-1].running(), self.processes[-1].text()

    def pids(self):
        return [p.pid for p in self.processes]

class Smshook(Contender):
    """n receivers with one configuration; more: lines of [server]."""

    def __init__(self, stand, name="smshook", n=1, database=None):
        super().__init__(stand, name)
        self.config, self.spool = stand.configure(self.folder, database)
        sockets = [self.folder / f"s{i}" for i in range(n)]
        self.receivers = [rx.Receiver(stand.programs, self.folder, self.config, s)
                          for s in sockets]
        self.processes = [r.process for r in self.receivers]
        self.part = fastcgi(name, sockets)

    def address(self):
        return self.receivers[0].address()


def two(stand):
    return Smshook(stand, "two", 2)


def floor_database(stand):
    """One whose sms.ingest stores rows, and does no more."""
    name = stand.cluster.create()
    stand.migrate(stand.cluster.conninfo(name))
    with stand.connect(name) as c:
        for path in (HERE.parent / "sql/roles.sql", HERE / "peers/floor.sql"):
            c.execute(path.read_text())
    stand.floor = name
    return name


def floor(stand):
    return Smshook(stand, "floor", database=floor_database(stand))


class Empty(Contender):
    THREADS = 16

    def __init__(self, stand):
        super().__init__(stand, "empty")
        program = write(self.folder / "empty", (BUILD / "bench/empty").read_bytes(), 0o755)
        self.start([program, self.socket, self.THREADS])
        self.part = fastcgi("empty", [self.socket])


class Cgi(Contender):
    """Behind fcgiwrap, which takes no kept connections."""
    CHILDREN = 16

    def __init__(self, stand, name, params):
        super().__init__(stand, name)
        self.start([need("fcgiwrap"), "-c", self.CHILDREN, "-s", f"unix:{self.socket}"])
        self.part = fastcgi(name, [self.socket], False, params(self.folder))


class SmshookCgi(Cgi):
    def __init__(self, stand, name="smshook_cgi", database=None):
        def params(folder):
            self.config, self.spool = stand.configure(folder, database)
            return {"SCRIPT_FILENAME": stand.programs / "smshook.fcgi",
                    "SMSHOOK_CONFIG": self.config}
        super().__init__(stand, name, params)


def floor_cgi(stand):
    return SmshookCgi(stand, "floor_cgi", floor_database(stand))


def empty_cgi(stand):
    """The same of a program that does nothing."""
    program = compiled(stand.top, "nothing", (HERE / "peers/nothing.c").read_text())
    return Cgi(stand, "empty_cgi", lambda _: {"SCRIPT_FILENAME": program})


def compiled(folder, name, source, *flags):
    compiler = need("cc", "build-essential")
    text = write(folder / f"{name}.c", source)
    subprocess.run([compiler, "-O2", *flags, "-o", str(folder / name), str(text)], check=True)
    return folder / name


def php_params(stand, table, script, **more):
    return {"SCRIPT_FILENAME": script, "PEER_TOKEN": stand.token, "PEER_TABLE": table,
            "PEER_DSN": "pgsql:" + stand.peer_dsn().replace(" ", ";"), **more}


class PhpCgi(Cgi):
    def __init__(self, stand):
        program = need("php-cgi")
        text = f"#!{program}\n" + (HERE / "peers/webhook.php").read_text()
        super().__init__(stand, "php_cgi", lambda folder: php_params(
            stand, "php_cgi", write(folder / "webhook.php", text, 0o755)))


class PhpFpm(Contender):
    """No kept connections: each would hold a child."""
    CHILDREN = 8

    def __init__(self, stand):
        super().__init__(stand, "php_fpm")
        programs = glob.glob("/usr/sbin/php-fpm*") + glob.glob("/usr/bin/php-fpm*")
        program = sorted(programs)[-1] if programs else need("php-fpm")
        config = write(self.folder / "fpm.conf", f"""[global]
error_log = {self.folder}/fpm.log
daemonize = no
[www]
listen = {self.socket}
listen.backlog = 4096
pm = static
pm.max_children = {stand.pool or self.CHILDREN}
php_admin_value[opcache.enable] = 1
php_admin_value[opcache.validate_timestamps] = 0
""")
        self.start([program, "-F", "-y", config])
        script = write(self.folder / "webhook.php", (HERE / "peers/webhook.php").read_bytes())
        self.part = fastcgi("php_fpm", [self.socket], False, php_params(
            stand, "php_fpm", script, PEER_PERSISTENT=1))


class Node(Contender):
    POOL = 16

    def __init__(self, stand):
        super().__init__(stand, "node")
        program = need("node", "nodejs")
        shutil.copytree(packages(), self.folder / "node")
        self.start([program, self.folder / "node/server.js"], {
            "PEER_SOCKET": str(self.socket), "PEER_TOKEN": stand.token,
            "PEER_POOL": str(stand.pool or self.POOL), "PEER_DSN": stand.peer_dsn(),
            "NODE_ENV": "production"})
        self.socket.chmod(0o666)
        self.part = proxy("node", f"unix:{self.socket}", "/")


def packages():
    """The folder with server.js and what npm has installed beside it, once."""
    folder = BUILD / "bench/node"
    folder.mkdir(parents=True, exist_ok=True)
    for file in (HERE / "peers/node").glob("*.js*"):
        shutil.copy(file, folder)
    if not (folder / "node_modules/fastify").exists():
        done = subprocess.run([need("npm"), "install", "--no-audit", "--no-fund"], cwd=folder,
                              capture_output=True, timeout=180, check=False)
        if done.returncode:
            raise Missing("npm cannot install fastify and pg: "
                          + done.stderr.decode().strip().split("\n")[-1])
    return folder


class Webhook(Contender):
    def __init__(self, stand):
        super().__init__(stand, "webhook")
        program, psql, port = need("webhook"), need("psql"), servers.free_port()
        sql = write(self.folder / "webhook.sql", (HERE / "peers/webhook.sql").read_bytes())
        hooks = write(self.folder / "hooks.json", json.dumps([{
            "id": stand.token, "execute-command": psql, "http-methods": ["POST"],
            "include-command-output-in-response": True,
            "pass-arguments-to-command": [{"source": "string", "name": a} for a in (
                "-qXAt", "-v", "ON_ERROR_STOP=1", "-d", stand.peer_dsn(), "-f", str(sql))],
            "pass-environment-to-command": [{"source": "entire-payload", "envname": "PAYLOAD"}],
        }]))
        self.start([program, "-hooks", hooks, "-ip", "127.0.0.1", "-port", port],
                   is_ready=lambda: listens(port))
        self.part = proxy("webhook", f"127.0.0.1:{port}", "/hooks/")


def listens(port):
    with open("/proc/net/tcp") as lines:
        return any(f":{port:04X} 00000000:0000 0A" in line for line in lines)


CONTENDERS = {"smshook": Smshook, "floor": floor, "empty": Empty, "smshook_cgi": SmshookCgi,
              "php_fpm": PhpFpm, "php_cgi": PhpCgi, "node": Node, "webhook": Webhook}
OTHERS = {"two": two, "floor_cgi": floor_cgi, "empty_cgi": empty_cgi}


# ------------------------------------------------------------------ stands

class Stand:
    """A PostgreSQL, contenders that write into it, and nginx in front of them.
    say: tells of a contender that cannot be had; preload: the source of a library
    for PostgreSQL; databases: names of databases with a receiver each; pool: connections of
    the peers to PostgreSQL, their best number otherwise; pooled: all go through pgbouncer."""

    def __init__(self, names, say=print, preload=None, databases=(), pool=None, pooled=False):
        self.names, self.say, self.preload = names, say, preload
        self.databases, self.pool, self.pooled = databases, pool, pooled
        self.floor = None  # the name of its database
        self.token, self.contenders, self.sent = rx.new_token(), {}, collections.Counter()
        self.top = new_folder(os.environ.get("TMPDIR"), "bench")
        self.top.chmod(0o755)
        FOLDERS.append(self.top)  # removed at the end, whatever happens
        self.first = len(Process.all)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.programs = rx.install(self.top)
        if self.preload:
            self.preload = compiled(self.top, "preload.so", self.preload.read_text(), "-shared",
                                    "-fPIC")
        self.cluster = Postgres(self.top, self.preload)
        self.cluster.age()
        self.database = prepare(self.cluster, self.migrate)
        self.peers = self.cluster.create()
        with self.cluster.connect(self.peers) as c:
            c.execute((HERE / "peers/tables.sql").read_text())
        self.host = Pgbouncer(self.top, self.cluster).folder if self.pooled else self.cluster.folder
        for name in self.names:
            try:
                self.contenders[name] = {**CONTENDERS, **OTHERS}[name](self)
            except Missing as e:
                self.say(f"without {name}: {e}")
        for name in self.databases:
            copy = self.cluster.create(f"template {self.database}")
            self.contenders[name] = Smshook(self, name, database=copy)
            self.contenders[name].database = copy
        parts = [c.part for c in self.contenders.values()]
        self.nginx = Nginx(self.top, parts) if parts else None

    def stop(self):
        """All that was started since, the last first."""
        mine = Process.all[self.first:]
        for p in reversed(mine):
            if not p.ended():
                with contextlib.suppress(TimeoutError):
                    p.stop(signal.SIGQUIT if "postgres" in p.popen.args[0] else signal.SIGTERM)
        shutil.rmtree(self.top, ignore_errors=True)

    def __getitem__(self, name):
        return self.contenders[name]

    def migrate(self, conninfo):
        return run([self.programs / "smshook", "-d", conninfo, "migrate"])

    def configure(self, folder, database=None):
        """(a configuration, its spool)."""
        spool = Spool(new_folder(folder, "spool"))
        return rx.write_config(folder, rx.config_text(
            self.conninfo("receiver", database), {"shop": f"token = {self.token}"},
            "socket_mode = 0666\nthreads = 64",
            f"timeout = 2s\n[spool]\ndirectory = {spool.folder}\nmax_size = 8GiB", "info")), spool

    def conninfo(self, user, database=None):
        text = self.cluster.conninfo(database or self.database, user)
        return text.replace(str(self.cluster.folder), str(self.host))

    def peer_dsn(self):
        return self.conninfo("peer", self.peers)

    def connect(self, database=None, user="postgres"):
        return self.cluster.connect(database or self.database, user)

    def url(self, name, token=None):
        return f"http://127.0.0.1:{self.nginx.port}/{name}/{token or self.token}"


def cpu_seconds(pids):
    """Of processes, all below them, and those of them that have ended."""
    used, children = {}, {}
    for folder in glob.glob("/proc/[0-9]*"):
        try:
            stat = Path(folder, "stat").read_text()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        pid = int(folder[6:])
        children.setdefault(int(fields[1]), []).append(pid)
        used[pid] = sum(int(f) for f in fields[11:15]) / TICKS
    todo, total = list(pids), 0
    while todo:
        pid = todo.pop()
        total += used.get(pid, 0)
        todo += children.get(pid, [])
    return total


def memory(pid):
    """What of a process is in memory, in MiB: all of it, and what is not of files."""
    with open(f"/proc/{pid}/status") as lines:
        of = {name: value for name, _, value in (line.partition(":") for line in lines)}
    return {f"{what}_mib": int(of[name].split()[0]) / 1024
            for what, name in (("rss", "VmRSS"), ("anon", "RssAnon"))}
