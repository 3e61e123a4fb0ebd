"""What must come of JSON, told by Python's own parser: which bodies are JSON, what
PostgreSQL's jsonb holds of them, what stands in a text column; and the values to
try it with.

jsonb has no U+0000, no lone surrogates, and no numbers that numeric does not hold,
nor is it given more than DIGITS digits of numbers that have an exponent: U+FFFD
stands in their places.
"""
import json
import re
from decimal import Decimal

DEPTH = 32
DIGITS = 1 << 20
BOM = b"\xef\xbb\xbf"

STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
NUMBER = r"-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?"
ESCAPE = (r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
          r"|\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})|\\.")
UNUSUAL = r"\\u|\d[eE]|\d{16384}"  # only there it can be that something is to be mended


class Numbers:
    """Of one body, in their order."""

    def __init__(self):
        self.left = DIGITS

    def fits(self, source):
        whole, fraction, exponent = re.fullmatch(NUMBER, source).groups()
        fraction, exponent = fraction or "", int(exponent or 0)
        if abs(exponent) >= (1 << 31) // 2 - 1:
            return False
        digits = (whole + fraction).lstrip("0")
        after = max(len(fraction) - exponent, 0)
        before = len(digits) - len(fraction) + exponent if digits else 0
        if before > 131072 or after > 16383:
            return False
        full = max(before, 0) + after if exponent else 0
        if full > self.left:
            return False
        self.left -= full
        return True

    def value(self, source):
        is_good = not re.search(UNUSUAL, source) or self.fits(source)
        return Decimal(source) if is_good else "\ufffd"


def mend_text(text):
    return text if text.isascii() and "\0" not in text else re.sub(
        "[\0\ud800-\udfff]", "\ufffd", text)


class Pairs(list):
    """The members of an object."""


def mend(value):
    if isinstance(value, str):
        return mend_text(value)
    if isinstance(value, Pairs):
        return {mend_text(k): mend(v) for k, v in value}
    return [mend(v) for v in value] if isinstance(value, list) else value


def no_constant(name):
    raise ValueError(name)


def is_deep(text):
    """Brackets are nested deeper than DEPTH."""
    depth = 0
    for bracket in re.finditer(r"[\[{}\]]", re.sub(STRING, "", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEPTH:
            return True
    return False


def parse(body):
    """[value, as jsonb has it], or [] when the bytes are not JSON."""
    try:
        text = body.removeprefix(BOM).decode("utf-8")
        if is_deep(text):
            return []
        numbers = Numbers()
        return [mend(json.loads(text, parse_int=numbers.value, parse_float=numbers.value,
                                parse_constant=no_constant, object_pairs_hook=Pairs))]
    except (ValueError, RecursionError):
        return []


def mend_source(source):
    """JSON as it stands in payload and in columns: of the same length in bytes."""
    numbers = Numbers()
    if not re.search(UNUSUAL, source):
        return source

    def put(match):
        token = match[0]
        if token[0] != '"':
            return token if numbers.fits(token) else '"\ufffd"'.ljust(len(token) - 2)
        return token if "\\u" not in token else re.sub(
            ESCAPE, lambda e: "\\ufffd" if e[1] else e[0], token)
    return re.sub(f"{STRING}|{NUMBER}", put, source)


def is_faithful(body):
    """Nothing is to be mended, so raw is null."""
    return not body.startswith(BOM) and mend_source(body.decode()) == body.decode()


def column(source):
    """The text that a column has of a JSON value; None for null."""
    [value] = parse(source.encode())
    if value is None or isinstance(value, str):
        return value
    return mend_source(source).strip(" \t\r\n")


# ------------------------------------------------------------------- values
# (JSON, status_code, time): as a status_id and as a timestamp, None where it is
# none.  As a text it is what was sent, but for BEYOND.

NUMBERS = [
    ("0", 0, "1970-01-01T00:00:00Z"),
    ("-0", 0, "1970-01-01T00:00:00Z"),
    ("-0.0", 0, "1970-01-01T00:00:00Z"),
    ("0.5", None, "1970-01-01T00:00:00.500000Z"),
    ("1E+2", None, None),
    ("2147483647", 2147483647, "2038-01-19T03:14:07Z"),
    ("2147483648", None, "2038-01-19T03:14:08Z"),
    ("-2147483648", None, "1901-12-13T20:45:52Z"),
    ("4294967303", None, "2106-02-07T06:28:23Z"),
    ("9007199254740991", None, None),
    ("9007199254740992", None, None),
    ("9007199254740993", None, None),
    ("-9007199254740993", None, None),
    ("9223372036854775807", None, None),
    ("9223372036854775808", None, None),
    ("-9223372036854775808", None, None),
    ("-9223372036854775809", None, None),
    ("18446744073709551615", None, None),
    ("18446744073709551616", None, None),
    ("18446744073709551623", None, None),  # 7, if 64 bits are kept
    ("0.1000000000000000055511151231257827", None, "1970-01-01T00:00:00.100000Z"),
    ("1e400", None, None),
    ("-1e400", None, None),
    ("1e131071", None, None),
    ("1e-16383", None, None),
]
BEYOND = ["1e131072", "-1e131072", "1e-16384", "1e1000000000", "1e-99999999999999999999",
          "0e-16384", "1" * 131073, "0." + "1" * 16384]

# (what stands between the quotes, what it says, whether jsonb holds it)
STRINGS = [
    (r"a\u0000b", "a\ufffdb", False),
    (r"\u0000", "\ufffd", False),
    (r"\ud800", "\ufffd", False),
    (r"\uDFFF", "\ufffd", False),
    (r"\udc00\ud800", "\ufffd\ufffd", False),
    (r"\ud83d\ud83d\ude00", "\ufffd\U0001f600", False),
    (r"\ud83d\ude00\ude00", "\U0001f600\ufffd", False),
    (r"\ud83d\n\ude00", "\ufffd\n\ufffd", False),
    (r"\\\u0000", "\\\ufffd", False),
    (r"\\u0000", r"\u0000", True),
    (r"\uD83D\uDe00", "\U0001f600", True),
    (r"\ufffd", "\ufffd", True),
    (r"\ufffe\uffff\ufdd0", "\ufffe\uffff\ufdd0", True),
    ("\uffff\U0010ffff", "\uffff\U0010ffff", True),
    ("\ufeff", "\ufeff", True),
    (r"\u0001\u001f\u007f", "\x01\x1f\x7f", True),
    (r"\b\f\n\r\t\"\\\/", "\b\f\n\r\t\"\\/", True),
    ("null", "null", True),
]

# (members, jsonb of them, the column body, whether jsonb holds them)
NAMES = [
    (r'"message":"1","message":"2"', {"message": "2"}, "2", True),
    (r'"message":"1","mess\u0061ge":"2"', {"message": "2"}, "2", True),
    (r'"a":1,"\u0061":2', {"a": 2}, None, True),
    (r'"message":"1","message":null', {"message": None}, None, True),
    (r'"message":"1","message\u0000":"2"', {"message": "1", "message\ufffd": "2"}, "1",
     False),
    (r'"a\u0000":1,"a\ud800":2', {"a\ufffd": 2}, None, False),
    ('"a\ufffd":1,"a\\udfff":2', {"a\ufffd": 2}, None, False),
    ('"a\\u0000":1,"a\ufffd":2', {"a\ufffd": 2}, None, False),
    (r'"":1,"\u0000":2', {"": 1, "\ufffd": 2}, None, False),
    (r'"x":{"a":1,"\u0061":{"a":2}}', {"x": {"a": {"a": 2}}}, None, True),
    ('"k":0,' + '"' + "k" * 65536 + '":1', {"k": 0, "k" * 65536: 1}, None, True),
]

# Bytes that are not UTF-8, or not JSON, wherever they stand in a text.
NO_TEXT = {
    "overlong_2": b"\xc0\xaf", "overlong_nul": b"\xc0\x80", "overlong_3": b"\xe0\x80\xaf",
    "overlong_4": b"\xf0\x80\x80\xaf", "cesu_8": b"\xed\xa0\xbd\xed\xb8\x80",
    "surrogate": b"\xed\xbf\xbf", "beyond": b"\xf4\x90\x80\x80", "five": b"\xf8\x88\x80\x80\x80",
    "cut_2": b"\xc3", "cut_3": b"\xe2\x82", "cut_4": b"\xf0\x9f\x98", "follows": b"\x80",
    "ff": b"\xff", "latin_1": "é".encode("latin-1"), "nul": b"\0", "escape": b"\x1b[2J",
    "tab": b"\t", "unknown_escape": b"\\a", "cut_escape": b"\\u12",
}
NO_JSON = {
    "utf_16": '{"event":"x"}'.encode("utf-16"), "utf_16_be": '{"event":"x"}'.encode("utf-16-be"),
    "utf_32": '{"event":"x"}'.encode("utf-32"), "two_boms": BOM * 2 + b'{"event":"x"}',
    "bom_inside": b'{"event":' + BOM + b'"x"}', "bom_behind": b'{"event":"x"}' + BOM,
    "depth_33": b'{"event":"x","x":' + b"[" * 32 + b"]" * 32 + b"}",
    "depth_100000": b'{"event":"x","x":' + b"[" * 100000 + b"]" * 100000 + b"}",
    "depth_of_objects": b'{"a":' * 80000 + b"0" + b"}" * 80000,
    "all_open": b"[" * 500000, "infinity": b'{"event":"x","x":Infinity}',
    "minus_nan": b'{"event":"x","x":-NaN}', "hex": b'{"event":"x","x":0x10}',
}

# What programs trip over; a text is a text.
NAUGHTY = [
    "", " ", "\t", "\r\n", "null", "NULL", "undefined", "true", "NaN", "-1", "0x1F", "1e1000",
    "{}", "[]", '{"a":1}', "{NULL}", '{"a","b"}', "\\", "\\\\", "\\x", "\\N", "\\.", '"', "''", '\\"',
    "'; drop table sms.event; --", "$$; select 1; $$", "E'\\''", "%s %d %n", "%(body)s", "$1", ":body",
    "{0}", "${PATH}", "$(id)", "`id`", "| cat /etc/passwd", "a; b && c", "-rf /", "--help", "../../x",
    "/dev/null", "C:\\aux", "<script>alert(1)</script>", "<!--", "]]>", "<![CDATA[x]]>", "&amp;&#0;",
    "<?php exit; ?>", "{{7*7}}", "a\nb\rc\td", "line\u2028separator\u2029s", "\x01\x02\x1b[2J\x7f",
    "\u0085\u00a0\u200b\u2060", "\u202eright to left\u202c", "\u2066isolated\u2069", "العربية", "עברית",
    "Z\u0351\u036b\u0343a\u0321\u035fl\u033a\u0355g\u0489o\u0310", "é", "e\u0301", "ﬃ", "ß", "İıſ",
    "表ポあA鷗", "田中さん", "한국어", "𠜎𠜱", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "\ufeff", "\ufffd", "\ufffe\uffff",
    "\U0001fffe\U0010ffff", "\ue000", "x" * 3000, "𝓤𝓷𝓲", "ａｂｃ", "٠١٢", "1\u00a0000,00",
    "event_type=sms&to=+1", "BEGIN:VCARD\nEND:VCARD", "STOP", "+CMT: \"+1\"\r\n\x1a", "@",
]


class Maker:
    """Random JSON, by a random.Random; every third one is clean."""

    def __init__(self, rng):
        self.rng, self.is_clean = rng, False

    def object(self):
        self.is_clean = self.rng.random() < 0.33
        return self.members(4)

    def space(self):
        return self.rng.choice(("", "", "", " ", "\n\t"))

    def value(self, deep):
        kind = self.rng.randrange(8 if deep else 6)
        if kind < 3:
            return self.string()
        if kind < 5:
            return self.number()
        if kind == 5:
            return self.rng.choice(("true", "false", "null", "[]", "{}"))
        if kind == 6:
            return self.members(deep - 1)
        items = (self.value(deep - 1) for _ in range(self.rng.randrange(4)))
        return "[" + ",".join(self.space() + i + self.space() for i in items) + "]"

    def members(self, deep):
        members = (f"{self.space()}{self.string()}{self.space()}:{self.space()}"
                   f"{self.value(deep - 1)}" for _ in range(self.rng.randrange(6)))
        return "{" + ",".join(members) + "}"

    def number(self):
        r = self.rng
        source = ("-" if r.random() < 0.3 else "") + str(r.getrandbits(r.choice((1, 8, 53, 64, 90))))
        if r.random() < 0.4:
            source += f".{r.getrandbits(r.choice((4, 60))):0{r.randrange(1, 9)}d}"
        if r.random() < 0.4:
            most = 300 if self.is_clean else r.choice((30, 400, 16400, 131080, 10 ** 12))
            source += f"{r.choice('eE')}{r.choice(('', '+', '-'))}{r.randrange(most)}"
        return source

    def string(self):
        return '"' + "".join(self.character() for _ in range(self.rng.choice((0, 1, 2, 5, 9)))) + '"'

    def character(self):
        r, kind = self.rng, self.rng.randrange(12)
        if kind < 4:
            return r.choice("abAB ,:{}[]'")
        if kind == 4:
            return r.choice((r"\n", r"\"", r"\\", r"\/", r"\b", r"\u0001", r"\u0061"))
        if kind == 5:
            return chr(r.choice((0x7f, 0xe9, 0x3b1, 0x20ac, 0x2028, 0xfeff, 0xffff, 0x1f600, 0x10ffff)))
        if kind == 6:
            return "".join(f"\\u{unit:04{r.choice('xX')}}" for unit in
                           (r.randrange(0xd800, 0xdc00), r.randrange(0xdc00, 0xe000)))
        if kind == 7 and not self.is_clean:
            return r.choice((r"\u0000", r"\ud800", r"\udbff", r"\udc00", r"\uDFFF", r"\ud83dx"))
        return f"\\u{r.choice((0x1, 0x80, 0x41f, 0xd7ff, 0xe000, 0xfffd)):04x}"
