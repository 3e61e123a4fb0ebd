"""The spool's files, read and written by their format alone: not one line is
shared with the program."""
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

FIRST_LINE = b"smshook spool 1\n"
NAME = re.compile(r"[0-9a-f]{32}\.[0-9]+")


class Invalid(Exception):
    """Not a whole spool file, and why."""


@dataclass
class Event:
    ingest_id: UUID
    received_at: datetime
    source: str
    body: bytes
    remote_addr: str = None
    content_type: str = None
    rejected: str = None  # "422 reason"

    @property
    def http_status(self):
        return int(self.rejected[:3]) if self.rejected else None


def parse(data):
    """The events of one file's bytes."""
    if not data.startswith(FIRST_LINE):
        raise Invalid("the first line")
    end = data.rfind(b"\nend ") + 1
    last = re.fullmatch(rb"end ([0-9]+) ([0-9a-f]{64})\n", data[end:])
    if not last or end < len(FIRST_LINE):
        raise Invalid("the last line")
    if hashlib.sha256(data[:end]).hexdigest() != last[2].decode():
        raise Invalid("the sum")
    events, at = [], len(FIRST_LINE)
    while at < end:
        event, at = parse_event(data, at)
        events.append(event)
    if at != end or len(events) != int(last[1]) or not events:
        raise Invalid("the count")
    return events


FIELDS = ("ingest-id", "received-at", "source", "remote-addr", "content-type",
          "rejected", "length")
OPTIONAL = ("remote-addr", "content-type", "rejected")


def parse_event(data, at):
    head_end = data.find(b"\n\n", at)
    if head_end < 0:
        raise Invalid("no empty line")
    fields = {}
    for line in data[at:head_end].decode(errors="replace").split("\n"):
        name, colon, value = line.partition(": ")
        if not colon or name in fields or name not in FIELDS:
            raise Invalid(f"the line {line!r}")
        fields[name] = value
    if list(fields) != [n for n in FIELDS if n in fields or n not in OPTIONAL]:
        raise Invalid("the order of lines")
    at = head_end + 2
    length = int(fields["length"])
    if data[at + length:at + length + 1] != b"\n":
        raise Invalid("the length of a body")
    received_at = datetime.strptime(fields["received-at"], "%Y-%m-%dT%H:%M:%S.%fZ")
    return Event(UUID(fields["ingest-id"]), received_at.replace(tzinfo=timezone.utc),
                 fields["source"], data[at:at + length], fields.get("remote-addr"),
                 fields.get("content-type"), fields.get("rejected")), at + length + 1


def build(events):
    """The bytes of a file of these events."""
    out = FIRST_LINE
    for e in events:
        lines = [f"ingest-id: {e.ingest_id}",
                 f"received-at: {e.received_at.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}",
                 f"source: {e.source}"]
        for name in OPTIONAL:
            value = getattr(e, name.replace("-", "_"))
            lines += [f"{name}: {value}"] if value is not None else []
        lines.append(f"length: {len(e.body)}\n\n")
        out += "\n".join(lines).encode() + e.body + b"\n"
    return out + f"end {len(events)} {hashlib.sha256(out).hexdigest()}\n".encode()


def file_name(events, data):
    return f"{events[0].ingest_id.hex}.{len(data)}"


class Spool:
    """A spool's folder."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def names(self, which="new"):
        """In order of reception; none when the folder is not there."""
        folder = self.folder / which
        return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []

    def bad(self):
        """{name: reason} of quarantined files."""
        return {n: (self.folder / "bad" / f"{n}.reason").read_text()
                for n in self.names("bad") if not n.endswith(".reason")}

    def read(self, name, which="new"):
        """The events of one file; its name must fit."""
        path = self.folder / which / name
        data = path.read_bytes()
        events = parse(data)
        if name != file_name(events, data):
            raise Invalid(f"the name {name}")
        if path.stat().st_mode & 0o7777 != 0o600:
            raise Invalid(f"the mode of {name}")
        return events

    def events(self):
        """All events of new/, oldest file first.  Every file there must be whole
        at any moment; a drainer may take some away meanwhile."""
        found = []
        for name in self.names():
            try:
                found += self.read(name)
            except FileNotFoundError:
                pass
        return found

    def is_empty(self):
        return not self.names()
