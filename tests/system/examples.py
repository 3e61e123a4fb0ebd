"""An application of examples/, with a receiver, nginx and a browser beside it."""
import json
import os
import shutil
import socket

import pytest

from drivers import Http, post
from pages import Program, modules
from process import new_folder, wait_for
from servers import SOURCE, Nginx, free_port


class Example:
    """Its schema is in a database of smshook's; its files are a copy that the plain user may
    read, in self.folder.  launch() starts what it consists of."""

    def __init__(self, name, cluster, database, receiver, token, top):
        self.name, self.cluster, self.database = name, cluster, database
        self.receiver, self.token = receiver, token
        self.folder = new_folder(top, name) / name
        shutil.copytree(SOURCE / "examples" / name, self.folder, copy_function=shutil.copy,
                        ignore=shutil.ignore_patterns("node_modules"))
        for folder, names, _ in os.walk(self.folder):
            os.chmod(folder, 0o755)
        schema = self.folder / "schema.sql"
        if schema.exists():  # demo has none
            with cluster.connect(database) as c:
                c.execute(schema.read_text())
        self.nginx = Nginx(top, receiver.socket)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "PGHOST": str(cluster.folder), "PGPORT": "5432", "PGDATABASE": database,
            "PGUSER": name, "PORT": str(self.port), "no_proxy": "*"}
        self.running = []

    @property
    def webhook(self):
        """What the gateway is given."""
        return f"http://127.0.0.1:{self.nginx.port}/smshook/{self.token}"

    def need_node(self, package):
        """Beside its program, where require() looks."""
        folder = modules(package)
        if not folder:
            pytest.skip(f"not installed: Node's package {package}")
        if str(folder).startswith("/usr/"):
            (self.folder / "node_modules").symlink_to(folder)
        else:  # the plain user may not come near that folder
            shutil.copytree(folder, self.folder / "node_modules",
                            ignore=shutil.ignore_patterns("playwright-core"))

    def launch(self, command, environment=None):
        """A process of it; its log is .text()."""
        self.running.append(Program(command, self.folder.parent / f"{len(self.running)}.log",
                                    {**self.environment, **(environment or {})}))
        return self.running[-1]

    def wait_up(self):
        """Until the web server of it, the last that was launched, takes connections."""
        def answers():
            assert self.running[-1].running(), self.running[-1].text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            except OSError:
                return False
        wait_for(f"{self.name} on its port", answers)

    def post(self, *bodies):
        """Webhooks, through nginx, each answered before the next."""
        for body in bodies:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = Http(self.nginx.port).send(post(self.token, data))
            assert answer and answer.status == 200, answer

    def execute(self, sql, *values):
        """As the owner; the rows."""
        with self.cluster.connect(self.database) as c:
            cursor = c.execute(sql, values or None)
            return cursor.fetchall() if cursor.description else []

    def stop(self):
        """By their process ids, however the test ended."""
        for process in self.running:
            process.kill()
        self.nginx.stop()
