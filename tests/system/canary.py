"""What no log may hold: tokens, phone numbers and texts that the tests send all
the time, in any writing that a log may give them."""
import base64
import re
import secrets

TOKEN = "kanari"  # all tokens of new_token() begin so
PHONE = "+4915112345678"
TEXT = "Zitronenfalter"

# The numbers and texts of the contract's examples are in most other requests.
NUMBERS = (b"4915112345", b"1511234567", b"1234567890")
TEXTS = (TEXT, "I need help with my order")

# A file of this name is read at the end, if it is beneath no folder of these.
IS_LOG = re.compile(r"log|output")
DATA = ("data", "spool", "bin", "www", "body", "fastcgi", "proxy")


def new_token():
    return TOKEN + secrets.token_hex(13)


def in_base64(secret):
    """What is of it alone, amid other bytes, in each of the three ways that it falls."""
    for n in range(3):
        n_bits = 8 * (n + len(secret))
        yield base64.b64encode(b"\0" * n + secret)[-(-8 * n // 6):n_bits // 6]


def escaped(secret, mark):
    return "".join(f"{mark}{c:02x}" for c in secret).encode()


def writings(secret):
    """In lower case: as it is, as hexadecimal digits, escapes, base64."""
    text = secret.encode()
    forms = (text, text.hex().encode(), escaped(text, "%"), escaped(text, "\\x"), *in_base64(text))
    return {form.lower() for form in forms}


SECRETS = {name: writings(name) for name in (TOKEN, *TEXTS)}


def found(data):
    """Those of the secrets that are in the bytes of a log."""
    text = data.lower()
    names = {name for name, forms in SECRETS.items() if any(f in text for f in forms)}
    digits = text.translate(None, b" .()-")
    return sorted(names | {n.decode() for n in NUMBERS if n in digits})


def lines(data):
    """(line number, secrets, line) of those lines that hold some."""
    if found(data):
        for n, line in enumerate(data.split(b"\n"), 1):
            if found(line):
                yield n, found(line), line[:600]


# (pattern of the log's path, of the line): why it may, and what to do is in SECURITY.md.
EXCEPTIONS = {
    (r"/lighttpd-\w+/access\.log$", rb'" 4(00|11) \d+ "-" "-"$'):
        "a malformed request: lighttpd logs it before it knows the URL",
    (r"/lighttpd-\w+/access\.log$", rb'"POST /(smshookx|smshook-other|x/smshook)/\S+ '):
        "a token that was sent to an address that is not smshook's",
}
SAID = []  # on stderr, by commands that were run to their end


def logs(folder):
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if IS_LOG.search(path.name) and not set(DATA) & set(inner.parts[:-1]) and path.is_file():
            yield path


def search(folder):
    """(how many logs were read, a sentence for each line that tells a secret)."""
    n, told = 0, []
    for n, path in enumerate(logs(folder), 1):
        for number, names, line in lines(path.read_bytes()):
            if not any(re.search(where, str(path)) and re.search(what, line)
                       for where, what in EXCEPTIONS):
                told.append(f"{path}:{number}: {', '.join(names)}: {line!r}")
    told += [f"on stderr: {', '.join(names)}: {line!r}"
             for said in SAID for _, names, line in lines(said)]
    return n, told
