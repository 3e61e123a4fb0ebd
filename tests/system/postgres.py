"""A private PostgreSQL, and fresh databases with smshook's schema."""
import glob
import signal
import subprocess

import psycopg
import pytest

import process
from process import Process, give, new_folder, run, tool, wait_for, write

SETTINGS = """
listen_addresses = ''
max_connections = 200
password_encryption = scram-sha-256
fsync = off
log_min_messages = warning
"""
INGEST_LOCK = 32489964762525547  # that of sms.ingest

# One role must give its password, for the tests of what then goes wrong.
HBA = """
local all locked scram-sha-256
local all all trust
"""


def program_folder():
    pg_config = tool("pg_config")
    folders = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")
    folders.sort(key=lambda f: int("".join(c for c in f if c.isdigit()) or 0))
    if pg_config:
        folders.append(subprocess.check_output([pg_config, "--bindir"], text=True).strip())
    for folder in reversed(folders):
        if glob.glob(folder + "/initdb"):
            return folder
    pytest.skip("PostgreSQL's server programs are not installed")


class Postgres:
    """One cluster on a Unix socket in its own folder."""

    def __init__(self, parent):
        self.programs = program_folder()
        self.folder = new_folder(parent, "pg")
        self.data = self.folder / "data"
        made = run([f"{self.programs}/initdb", "-D", self.data, "-U", "postgres",
                    "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-A", "trust"])
        assert made.returncode == 0, made.stderr
        conf = self.data / "postgresql.conf"
        write(conf, conf.read_text() + SETTINGS
              + f"unix_socket_directories = '{self.folder}'\n", 0o600)
        write(self.data / "pg_hba.conf", HBA, 0o600)
        self.count = 0
        self.start()

    def start(self):
        self.process = Process([f"{self.programs}/postgres", "-D", self.data],
                               self.folder / "server.log")
        wait_for("PostgreSQL", self.is_up)

    def is_up(self):
        assert self.process.running(), self.process.text()
        try:
            self.connect("postgres").close()
            return True
        except psycopg.OperationalError:
            return False

    def stop(self, number=signal.SIGINT):
        self.process.stop(number)

    def conninfo(self, database, user="postgres", more=""):
        return f"host={self.folder} dbname={database} user={user} {more}".strip()

    def connect(self, database, user="postgres", **more):
        return psycopg.connect(self.conninfo(database, user), autocommit=True, **more)

    def execute(self, sql, database="postgres"):
        with self.connect(database) as c:
            c.execute(sql)

    def create(self, options="template template0 encoding 'UTF8'"):
        """A new database's name."""
        self.count += 1
        name = f"t{self.count}"
        self.execute(f"create database {name} {options}")
        return name


class Database:
    """One database with smshook's schema, and what tests ask of it."""

    def __init__(self, postgres, name):
        self.postgres, self.name = postgres, name
        self.writer = postgres.conninfo(name, "receiver")
        self.connection = postgres.connect(name, row_factory=psycopg.rows.dict_row)

    def close(self):
        self.connection.close()

    def rows(self, sql, *values):
        return self.connection.execute(sql, values).fetchall()

    def value(self, sql, *values):
        row = self.connection.execute(sql, values).fetchone()
        return next(iter(row.values())) if row else None

    def events(self):
        return self.rows(
            "select *, payload::text as payload_text from sms.event order by id")

    def rejected(self):
        return self.rows("select * from sms.rejected order by id")

    def empty(self):
        """Between two calls of sms.ingest, not amid one: a receiver makes an
        empty one when it starts."""
        with self.connection.transaction():
            self.connection.execute("select pg_advisory_xact_lock(%s)", [INGEST_LOCK])
            self.connection.execute(
                "truncate sms.event, sms.message, sms.rejected, sms.recent_body")
