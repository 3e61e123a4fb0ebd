"""A FastCGI client at the level of records, for what no web server sends."""
import socket
import struct

BEGIN, ABORT, END, PARAMS, STDIN, STDOUT, STDERR = 1, 2, 3, 4, 5, 6, 7
KEEP_CONN = 1


def record(kind, content=b"", request_id=1, padding=0, version=1):
    return struct.pack("!BBHHBx", version, kind, request_id, len(content),
                       padding) + content + b"\0" * padding


def stream(kind, content, request_id=1, size=65535, end=True):
    """A stream cut into records of at most size, with the empty one."""
    parts = [record(kind, content[i:i + size], request_id)
             for i in range(0, len(content), size)]
    return b"".join(parts) + (record(kind, b"", request_id) if end else b"")


def begin(request_id=1, flags=0, role=1):
    return record(BEGIN, struct.pack("!HB5x", role, flags), request_id)


def params(pairs):
    def length(data):
        n = len(data)
        return struct.pack("!B", n) if n < 128 else struct.pack("!I", n | 1 << 31)
    out = b""
    for name, value in pairs.items():
        name, value = (x if isinstance(x, bytes) else x.encode()
                       for x in (name, value))
        out += length(name) + length(value) + name + value
    return out


def request(pairs, body=b"", keep=False, request_id=1, size=65535):
    return (begin(request_id, KEEP_CONN if keep else 0)
            + stream(PARAMS, params(pairs), request_id)
            + stream(STDIN, body, request_id, size))


class Connection:
    """One connection to a receiver at a Unix socket path or (host, port)."""

    def __init__(self, address, timeout=30):
        if isinstance(address, tuple):
            self.socket = socket.create_connection(address, timeout)
            return
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(str(address))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read_exactly(self, n):
        data = b""
        while len(data) < n:
            part = self.socket.recv(n - len(data))
            if not part:
                return None
            data += part
        return data

    def read_record(self):
        """(type, request id, content), or None at the end of the connection."""
        header = self.read_exactly(8)
        if header is None:
            return None
        _, kind, request_id, length, padding = struct.unpack("!BBHHBx", header)
        content = self.read_exactly(length + padding)
        return None if content is None else (kind, request_id, content[:length])

    def answer(self):
        """The CGI response of one request, None when it was cut off."""
        out = b""
        while True:
            try:
                got = self.read_record()
            except ConnectionError:
                return None
            if got is None:
                return None
            if got[0] == STDOUT:
                out += got[2]
            if got[0] == END:
                return out

    def ask(self, pairs, body=b"", **how):
        self.send(request(pairs, body, **how))
        return self.answer()
