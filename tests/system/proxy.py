"""A proxy in front of PostgreSQL that breaks things when it is told to."""
import socket
import struct
import threading
import time

from process import give

RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: close() sends a RST


def quietly(do, *arguments):
    try:
        do(*arguments)
    except OSError:
        pass


def in_thread(do, *arguments):
    threading.Thread(target=do, args=arguments, daemon=True).start()


class Messages:
    """Cuts one direction of the protocol into messages; the first of a client
    has no type (manual of PostgreSQL, "Message Formats")."""

    def __init__(self, has_type):
        self.data, self.has_type = b"", has_type

    def add(self, data):
        """The whole messages that are there now, as (type, bytes)."""
        self.data += data
        while len(self.data) >= 4 + self.has_type:
            size = struct.unpack_from("!I", self.data, self.has_type)[0] + self.has_type
            if len(self.data) < size:
                return
            message, self.data = self.data[:size], self.data[size:]
            yield (message[:1] if self.has_type else b"", message)
            self.has_type = 1


class Link:
    """One client and its connection to the server: a thread each way."""

    def __init__(self, proxy, client):
        self.proxy, self.client = proxy, client
        self.server = socket.socket(socket.AF_UNIX)
        self.is_ingest = False  # a call of sms.ingest is on its way
        self.statements = {}  # by name: is it that?
        self.held = b""  # the part of its answer that is there
        self.server.connect(proxy.target)
        proxy.links.add(self)
        in_thread(lambda: (quietly(self.to_server), self.cut()))
        in_thread(lambda: (quietly(self.to_client), self.cut()))

    def to_server(self):
        messages = Messages(0)
        while data := self.client.recv(65536):
            self.proxy.wait()
            for kind, message in messages.add(data):
                self.look(kind, message)
                self.server.sendall(message)

    def look(self, kind, message):
        """Parse names a statement, Bind uses it."""
        if kind == b"P":
            name, sql = message[5:].split(b"\0")[:2]
            self.statements[name] = b"sms.ingest(" in sql
        elif kind == b"B":
            self.is_ingest |= self.statements.get(message[5:].split(b"\0", 2)[1], False)

    def to_client(self):
        messages = Messages(1)
        while data := self.server.recv(65536):
            self.proxy.wait()
            for kind, message in messages.add(data):
                self.held += message
                if not self.is_ingest or self.is_over(kind):
                    self.client.sendall(self.held)
                    self.held = b""

    def is_over(self, kind):
        """All of sms.ingest's answer is there.  The transaction ends at Sync,
        after CommandComplete (C) and before ReadyForQuery (Z)."""
        if kind != b"Z":
            return False
        self.is_ingest = False
        has_failed = any(k == b"E" for k, _ in Messages(1).add(self.held))
        self.proxy.commits += not has_failed
        if has_failed or not self.proxy.lose_every or self.proxy.commits % self.proxy.lose_every:
            return True
        self.proxy.lost += 1
        raise ConnectionError("as it was told to")

    def cut(self):
        """Both ways at once: over TCP with a RST, not a FIN."""
        for s in (self.client, self.server):
            quietly(s.setsockopt, socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            quietly(s.shutdown, socket.SHUT_RD)  # wakes recv()
            s.close()
        self.proxy.links.discard(self)


class Proxy:
    """Listens at a Unix socket in folder, or at a TCP port of this machine when
    there is none; target: a server's Unix socket.

    delay: seconds that each piece waits; speaks.clear(): takes what comes, also
    new connections, and says nothing; lose_every: of so many commits of
    sms.ingest one loses its answer (0: none), lost counts them."""

    def __init__(self, target, folder=None):
        self.target, self.folder = str(target), folder
        self.delay, self.lose_every, self.commits, self.lost = 0, 0, 0, 0
        self.speaks = threading.Event()
        self.speaks.set()
        self.links, self.listener, self.port = set(), None, 0
        self.up()

    def conninfo(self, database, user="receiver"):
        where = f"host={self.folder}" if self.folder else f"host=127.0.0.1 port={self.port}"
        return f"{where} dbname={database} user={user} sslmode=disable gssencmode=disable"

    def up(self):
        """Takes connections, at the same place as before."""
        if self.folder:
            path = self.folder / ".s.PGSQL.5432"
            path.unlink(missing_ok=True)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(path))
            self.listener.listen(64)
            give(path)
        else:
            self.listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
            self.port = self.listener.getsockname()[1]
        in_thread(quietly, self.accept, self.listener)

    def accept(self, listener):
        while True:
            quietly(Link, self, listener.accept()[0])

    def down(self):
        """Refuses connections and cuts those that are there."""
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()
        self.cut()

    def cut(self):
        for link in list(self.links):
            link.cut()

    def half_close(self):
        """The server falls silent for good; the client may go on talking."""
        for link in list(self.links):
            quietly(link.client.shutdown, socket.SHUT_WR)

    def wait(self):
        time.sleep(self.delay)
        self.speaks.wait()
