"""The one list of cases: a request, and what must come of it by every driver.

In path, query and headers {token} is the token of the case's source, {second}
another one of it, {encoded} the token with each byte percent-encoded, {basic}
HTTP Basic with it as password, {wrong} a token of nobody.
"""
import gzip
import json
from dataclasses import dataclass, field

import signed
from drivers import Request

DRIVERS = ("cgi", "fcgi", "nginx", "apache-proxy", "apache-fcgid", "apache-cgid",
           "lighttpd")
DIRECT = ("cgi", "fcgi")
APACHE = ("apache-proxy", "apache-fcgid", "apache-cgid")
SERVERS = ("nginx", *APACHE, "lighttpd")

MAX_BODY = 65536

# The sources of the configuration that the cases run with.
SOURCES = {"main": "", "berlin": "timezone = Europe/Berlin\n",
           "till": "device_id = till-7\n", **signed.SOURCES}


class Any:
    """Equal to all but null."""

    def __eq__(self, other):
        return other is not None

    def __repr__(self):
        return "ANY"


ANY = Any()


@dataclass(frozen=True)
class Case:
    """event: the columns of the row in sms.event that are not null; rejected:
    columns of the row in sms.rejected.  on: {driver: what differs there}."""
    name: str
    request: Request
    status: int = 200
    event: dict = None
    rejected: dict = None
    allow: str = None
    source: str = "main"
    times: int = 1
    raw: bool = False  # jsonb cannot hold the body
    by_server: bool = False  # the web server answers, in its own words
    on: dict = field(default_factory=dict)


def by_server(*statuses):
    """The web server itself answers, or closes the connection (None)."""
    return {"status": statuses, "by_server": True, "event": None, "rejected": None,
            "allow": None}


def skip(why):
    return {"skip": why}


def on(*pairs):
    """{driver: override} from (drivers, override)."""
    return {d: how for drivers, how in pairs
            for d in ((drivers,) if isinstance(drivers, str) else drivers)}


def encode(body):
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode()
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


JSON_TYPE = (("Content-Type", "application/json"),)


def req(body, path="/{token}", headers=JSON_TYPE, **more):
    return Request(path, encode(body), headers=headers, **more)


def stored(name, body, event, **more):
    case = {k: more.pop(k) for k in ("source", "times", "raw", "on") if k in more}
    return Case(name, req(body, **more), event=event, **case)


def rejected(name, body, status, **more):
    case = {k: more.pop(k) for k in ("on",) if k in more}
    return Case(name, req(body, **more), status=status,
                rejected={"http_status": status, "reason": ANY}, **case)


def refused(name, status, body=None, **more):
    """Answered status, and nothing is kept."""
    case = {k: more.pop(k) for k in ("on", "allow") if k in more}
    return Case(name, req(DELIVERY if body is None else body, **more),
                status=status, **case)


def without(body, *names):
    return {k: v for k, v in body.items() if k not in names}


# ----------------------------------------------------------- the dialects

DELIVERY = {"event": "delivery_status", "message_id": "abc123",
            "phone": "+1234567890", "status": "delivered",
            "timestamp": "2026-01-15T10:30:00Z", "device_id": "device_xyz"}
DELIVERY_ROW = {"kind": "delivery_status", "message_id": "abc123",
                "phone": "+1234567890", "status": "delivered",
                "status_text": "delivered", "occurred_at": "2026-01-15T10:30:00Z",
                "device_id": "device_xyz"}

SMS = {"event": "incoming_sms", "phone": "+1234567890",
       "message": "Hello, I need help with my order",
       "timestamp": "2026-01-15T10:31:00Z", "device_id": "device_xyz"}
SMS_ROW = {"kind": "incoming_sms", "phone": "+1234567890",
           "body": "Hello, I need help with my order",
           "occurred_at": "2026-01-15T10:31:00Z", "device_id": "device_xyz"}

REPORT = {"sms_id": 4711, "status_id": 7, "status_message": "Delivered",
          "sendto": "+491511234567", "senttime": "2026-01-15 10:30:00",
          "channel_id": 2, "device_id": 12345}
REPORT_ROW = {"kind": "delivery_status", "message_id": "4711",
              "phone": "+491511234567", "status": "delivered", "status_code": 7,
              "status_text": "Delivered", "occurred_at": "2026-01-15T10:30:00Z",
              "channel": "2", "device_id": "12345"}

INCOMING = {"address": "+491511234567", "date": "2026-01-15 10:31:05",
            "date_sent": "2026-01-15 10:31:00", "body": "Grüße aus Köln 👍",
            "internal_id": 99, "channel_id": 1, "sms_id": 815, "device_id": 12345,
            "device_name": "Front desk", "type": "text"}
INCOMING_ROW = {"kind": "incoming_sms", "message_id": "815",
                "phone": "+491511234567", "body": "Grüße aus Köln 👍",
                "occurred_at": "2026-01-15T10:31:00Z", "channel": "1",
                "device_id": "12345", "device_name": "Front desk"}
IMAGE = {**INCOMING, "type": "img", "body": "",
         "img_url": "https://smsgateway24.example/i/1.jpg"}
IMAGE_ROW = {**INCOMING_ROW, "body": "",
             "media_url": "https://smsgateway24.example/i/1.jpg"}

DIALECTS = [
    stored("article_delivery", DELIVERY, DELIVERY_ROW),
    stored("article_incoming", SMS, SMS_ROW),
    stored("reference_delivery", REPORT, REPORT_ROW),
    stored("reference_delivery_sim", {**without(REPORT, "channel_id"), "sim": 0},
           {**REPORT_ROW, "channel": "0"}),
    stored("reference_incoming", INCOMING, INCOMING_ROW),
    stored("reference_incoming_old",
           {**without(INCOMING, "channel_id", "type"), "address": 491511234567,
            "sim": 1}, {**INCOMING_ROW, "phone": "491511234567"}),
    stored("reference_image", IMAGE, IMAGE_ROW),
    stored("reference_image_short",
           without(IMAGE, "device_id", "device_name", "channel_id"),
           without(IMAGE_ROW, "device_id", "device_name", "channel")),
    stored("internal_id_null", {**INCOMING, "internal_id": None}, INCOMING_ROW),
    stored("channel_id_before_sim", {**REPORT, "sim": 1}, REPORT_ROW),
    stored("date_when_no_date_sent", without(INCOMING, "date_sent"),
           {**INCOMING_ROW, "occurred_at": "2026-01-15T10:31:05Z"}),
    stored("date_when_date_sent_null", {**INCOMING, "date_sent": None},
           {**INCOMING_ROW, "occurred_at": "2026-01-15T10:31:05Z"}),
    stored("all_optional_null",
           {**REPORT, **dict.fromkeys(("status_message", "sendto", "senttime",
                                       "channel_id", "device_id"))},
           {"kind": "delivery_status", "message_id": "4711", "status": "delivered",
            "status_code": 7}),
    stored("delivery_least", {"event": "delivery_status", "message_id": "m",
                              "status": "sent"},
           {"kind": "delivery_status", "message_id": "m", "status": "sent",
            "status_text": "sent"}),
    stored("incoming_least", {"event": "incoming_sms", "phone": "+1"},
           {"kind": "incoming_sms", "phone": "+1"}),
    stored("incoming_empty_text", {**SMS, "message": ""}, {**SMS_ROW, "body": ""}),
    stored("numeric_strings",
           {**REPORT, "sms_id": "4711", "status_id": "7", "channel_id": "2",
            "device_id": "12345"}, REPORT_ROW),
    stored("article_ids_as_numbers", {**DELIVERY, "message_id": 77, "device_id": 5},
           {**DELIVERY_ROW, "message_id": "77", "device_id": "5"}),
    stored("id_beyond_64_bits", json.dumps(REPORT).replace("4711", "18446744073709551617"),
           {**REPORT_ROW, "message_id": "18446744073709551617"}),
    stored("unknown_members", {**DELIVERY, "price": 1.5, "extra": {"a": [1, None, {}]}},
           DELIVERY_ROW),
    stored("unknown_event", {"event": "device_offline", "device_id": "d1",
                             "timestamp": "2026-01-15T10:30:00Z"},
           {"kind": "device_offline", "device_id": "d1",
            "occurred_at": "2026-01-15T10:30:00Z"}),
    stored("device_of_source", without(DELIVERY, "device_id"),
           {**DELIVERY_ROW, "device_id": "till-7"}, source="till"),
    stored("device_of_source_and_body", DELIVERY, DELIVERY_ROW, source="till"),
    stored("white_space_around", b" \r\n\t" + encode(DELIVERY) + b"\n", DELIVERY_ROW),
    stored("escaped_member_names",
           encode(DELIVERY).replace(b'"event"', b'"\\u0065vent"'), DELIVERY_ROW),
    stored("escaped_values", encode(SMS).replace(b"Hello", b"\\u0048el\\/lo\\n\\ud83d\\udc4d"),
           {**SMS_ROW, "body": "Hel/lo\n👍, I need help with my order"}),
    stored("duplicate_members_last_wins",
           encode(DELIVERY)[:-1] + b',"message_id":"last"}',
           {**DELIVERY_ROW, "message_id": "last"}),
]

# ---------------------------------------------------------------- statuses

STATUSES = [
    stored(f"status_id_{n}", {**REPORT, "status_id": n, "status_message": f"S{n}"},
           {**REPORT_ROW, "status": status, "status_code": n, "status_text": f"S{n}"})
    for n, status in ((1, "queued"), (2, "queued"), (3, "queued"), (6, "sent"),
                      (7, "delivered"), (8, "failed"), (9, "failed"), (10, "failed"),
                      (11, "failed"), (12, "failed"), (100, "failed"), (101, "failed"),
                      (0, "unknown"), (4, "unknown"), (13, "unknown"), (-1, "unknown"),
                      (102, "unknown"), (2000000000, "unknown"))
] + [
    stored("status_id_5_is_incoming", {**REPORT, "status_id": 5},
           {**without(REPORT_ROW, "status"), "kind": "incoming_sms",
            "status_code": 5}),
    stored("status_id_5_with_address", {**INCOMING, "status_id": 5}, INCOMING_ROW),
    stored("status_id_no_number", {**REPORT, "status_id": "soon"},
           {**without(REPORT_ROW, "status_code"), "status": "unknown", "note": ANY}),
    stored("status_id_beyond_32_bits", {**REPORT, "status_id": 99999999999},
           {**without(REPORT_ROW, "status_code"), "status": "unknown", "note": ANY}),
] + [
    stored(f"status_word_{word}", {**DELIVERY, "status": word},
           {**DELIVERY_ROW, "status": word, "status_text": word})
    for word in ("queued", "sent", "delivered", "failed", "unknown")
] + [
    stored("status_word_other", {**DELIVERY, "status": "bounced"},
           {**DELIVERY_ROW, "status": "unknown", "status_text": "bounced"}),
]

# --------------------------------------------------------------- datetimes

TIMES = [
    ("rfc3339_utc", "2026-01-15T10:30:00Z", "2026-01-15T10:30:00Z"),
    ("rfc3339_offset", "2026-01-15T12:30:00+02:00", "2026-01-15T10:30:00Z"),
    ("rfc3339_minus", "2026-01-15T05:00:00-05:30", "2026-01-15T10:30:00Z"),
    ("rfc3339_fraction", "2026-01-15T10:30:00.123456Z", "2026-01-15T10:30:00.123456Z"),
    ("plain", "2026-01-15 10:30:00", "2026-01-15T10:30:00Z"),
    ("plain_fraction", "2026-01-15 10:30:00.5", "2026-01-15T10:30:00.500000Z"),
    ("php_fraction", "2026-01-15 10:30:00.000000", "2026-01-15T10:30:00Z"),
    ("date", "2026-01-15", "2026-01-15T00:00:00Z"),
    ("leap_day", "2024-02-29 00:00:00", "2024-02-29T00:00:00Z"),
    ("unix", 1768473000, "2026-01-15T10:30:00Z"),
    ("unix_string", "1768473000", "2026-01-15T10:30:00Z"),
    ("unix_ms", 1768473000123, "2026-01-15T10:30:00.123000Z"),
    ("unix_ms_string", "1768473000123", "2026-01-15T10:30:00.123000Z"),
    ("object_offset", {"date": "2026-01-15 12:30:00.000000", "timezone_type": 1,
                       "timezone": "+02:00"}, "2026-01-15T10:30:00Z"),
    ("object_name", {"date": "2026-01-15 11:30:00.000000", "timezone_type": 3,
                     "timezone": "Europe/Berlin"}, "2026-01-15T10:30:00Z"),
    ("object_name_summer", {"date": "2026-07-15 12:30:00.000000", "timezone_type": 3,
                            "timezone": "Europe/Berlin"}, "2026-07-15T10:30:00Z"),
    ("object_utc", {"date": "2026-01-15 10:30:00.000000", "timezone_type": 3,
                    "timezone": "UTC"}, "2026-01-15T10:30:00Z"),
    ("object_no_zone", {"date": "2026-01-15 10:30:00"}, "2026-01-15T10:30:00Z"),
]
BAD_TIMES = [
    ("words", "yesterday"), ("now", "now"), ("infinity", "infinity"),
    ("february_30", "2026-02-30 10:00:00"), ("hour_25", "2026-01-15 25:00:00"),
    ("bad_offset", "2026-01-15T10:30:00+00:60"), ("true", True), ("array", [1]),
    ("object_empty", {}), ("object_bad_zone",
                           {"date": "2026-01-15 10:30:00", "timezone": "Mars/Base"}),
    ("huge_number", 10 ** 30), ("fraction_only", "10:30:00"),
]
DATETIMES = [
    stored(f"time_{name}", {**DELIVERY, "timestamp": value},
           {**DELIVERY_ROW, "occurred_at": at}) for name, value, at in TIMES
] + [
    stored(f"time_unreadable_{name}", {**DELIVERY, "timestamp": value},
           {**without(DELIVERY_ROW, "occurred_at"), "note": ANY})
    for name, value in BAD_TIMES
] + [
    stored("time_absent", without(DELIVERY, "timestamp"),
           without(DELIVERY_ROW, "occurred_at")),
    stored("time_zone_of_source", {**REPORT, "senttime": "2026-01-15 11:30:00"},
           REPORT_ROW, source="berlin"),
    stored("time_zone_of_source_summer", {**REPORT, "senttime": "2026-07-15 12:30:00"},
           {**REPORT_ROW, "occurred_at": "2026-07-15T10:30:00Z"}, source="berlin"),
    stored("time_zone_of_source_date", {**REPORT, "senttime": "2026-01-15"},
           {**REPORT_ROW, "occurred_at": "2026-01-14T23:00:00Z"}, source="berlin"),
    stored("time_own_zone_wins", {**REPORT, "senttime": "2026-01-15T10:30:00Z"},
           REPORT_ROW, source="berlin"),
    stored("time_object_zone_wins",
           {**REPORT, "senttime": {"date": "2026-01-15 05:30:00", "timezone_type": 3,
                                   "timezone": "America/New_York"}},
           REPORT_ROW, source="berlin"),
    stored("time_unix_has_no_zone", {**REPORT, "senttime": 1768473000}, REPORT_ROW,
           source="berlin"),
]

# ------------------------------------------------------------------ phones

PHONES = [
    stored(f"phone_{name}", {**SMS, "phone": phone}, {**SMS_ROW, "phone": row})
    for name, phone, row in (
        ("punctuation", "+49 (151) 123-45.67", "+491511234567"),
        ("double_zero", "0049 151 1234567", "+491511234567"),
        ("national", "0151-1234567", "01511234567"),
        ("short_code", "12345", "12345"),
        ("number", 491511234567, "491511234567"),
        ("name", "Vodafone", "Vodafone"),
        ("name_with_space", "My Shop 24", "My Shop 24"),
        ("name_with_dash", "T-Mobile", "T-Mobile"),
        ("name_utf8", "Käse", "Käse"))
]

# ----------------------------------------------- JSON that is no event: 422

NO_EVENTS = [
    rejected(f"no_event_{name}", body, 422) for name, body in (
        ("array", "[]"), ("string", '"CANARY"'), ("number", "42"), ("null", "null"),
        ("true", "true"), ("empty_object", "{}"), ("other", '{"CANARY":1}'),
        ("array_of_events", json.dumps([DELIVERY])),
        ("no_message_id", without(DELIVERY, "message_id")),
        ("message_id_null", {**DELIVERY, "message_id": None}),
        ("message_id_empty", {**DELIVERY, "message_id": ""}),
        ("no_status", without(DELIVERY, "status")),
        ("status_null", {**DELIVERY, "status": None}),
        ("no_phone", without(SMS, "phone")), ("phone_null", {**SMS, "phone": None}),
        ("phone_empty", {**SMS, "phone": ""}),
        ("no_sms_id", without(REPORT, "sms_id")),
        ("status_id_null", {**REPORT, "status_id": None}),
        ("address_null", {**INCOMING, "address": None}),
        ("address_empty", {**INCOMING, "address": ""}))
]

# ------------------------------------------------------------ not JSON: 400

NOT_JSON = [
    rejected(f"not_json_{name}", body, 400) for name, body in (
        ("white_space", " \n"), ("words", "CANARY is no JSON"), ("open", '{"event":'),
        ("trailing_comma", '{"event":"x",}'), ("single_quotes", "{'event':'x'}"),
        ("nan", '{"event":NaN}'), ("two", "{}{}"), ("trailing", "{} x"),
        ("nul_after", b"{}\0"), ("comment", '{"event":"x"/**/}'),
        ("control_character", b'{"event":"a\nb"}'), ("bad_escape", r'{"event":"\x41"}'),
        ("leading_zero", '{"event":01}'), ("depth_33", "[" * 33 + "]" * 33),
        ("latin_1", b'{"event":"caf\xe9"}'), ("overlong", b'{"event":"\xc0\xaf"}'),
        ("surrogate_bytes", b'{"event":"\xed\xa0\x80"}'),
        ("beyond_unicode", b'{"event":"\xf4\x90\x80\x80"}'),
        ("cut_utf8", b'{"event":"\xe2\x82"}'), ("utf16", '{"event":"x"}'.encode("utf-16")),
        ("bom_only", b"\xef\xbb\xbf"), ("form_as_json", "event=delivery_status&id=1"))
] + [
    rejected("not_json_no_type", "event=x", 400, headers=()),
    rejected("not_json_text_plain", "event=x", 400, headers=(("Content-Type", "text/plain"),)),
    rejected("not_json_octets", "event=x", 400,
             headers=(("Content-Type", "application/octet-stream"),)),
    rejected("not_json_problem_type", "event=x", 400,
             headers=(("Content-Type", "application/vnd.x+json; charset=utf-8"),)),
    rejected("empty_body", b"", 400),
    refused("no_length_no_body", 400, b"", length="",
            on=on((DIRECT, {"rejected": {"http_status": 400, "reason": ANY}}),
                  ("nginx", by_server(400)), (APACHE, by_server(400)),
                  ("lighttpd", by_server(400, 411)))),
]

# --------------------------------------------------- types and encodings: 415

OTHER_TYPES = [
    rejected(f"other_type_{name}", body, 415, headers=(("Content-Type", ctype),))
    for name, body, ctype in (
        ("form", "event=delivery_status&message_id=1", "application/x-www-form-urlencoded"),
        ("multipart", '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
         "multipart/form-data; boundary=b"),
        ("xml", "<event/>", "text/xml"),
        ("html", "<p>", "text/html; charset=utf-8"))
] + [
    rejected("gzip", gzip.compress(encode(DELIVERY), mtime=0), 415,
             headers=(*JSON_TYPE, ("Content-Encoding", "gzip"))),
] + [
    stored(f"json_as_{name}", DELIVERY, DELIVERY_ROW, headers=(("Content-Type", ctype),))
    for name, ctype in (("form", "application/x-www-form-urlencoded"),
                        ("multipart", "multipart/form-data; boundary=b"),
                        ("text", "text/plain"), ("html", "text/html"),
                        ("octets", "application/octet-stream"),
                        ("charset", "application/json; charset=utf-8"),
                        ("other_charset", "application/json; charset=utf-16"),
                        ("upper_case", "APPLICATION/JSON"), ("xml", "application/xml"),
                        ("image", "image/png"), ("words", "not a type at all"),
                        ("bytes", "\xff\xfe/\x80"), ("4_kb", "x/" + "y" * 4000))
] + [
    stored(f"json_encoded_{name}", DELIVERY, DELIVERY_ROW,
           headers=(*JSON_TYPE, ("Content-Encoding", name)))
    for name in ("deflate", "br")
] + [
    rejected("other_type_image", b"\x89PNG\r\n\x1a\n", 415,
             headers=(("Content-Type", "image/png"),)),
    rejected("other_type_multipart_no_boundary", "--b--", 415,
             headers=(("Content-Type", "multipart/form-data"),)),
    stored("json_without_type", DELIVERY, DELIVERY_ROW, headers=()),
    stored("json_called_gzip", DELIVERY, DELIVERY_ROW,
           headers=(*JSON_TYPE, ("Content-Encoding", "gzip"))),
    stored("json_identity", DELIVERY, DELIVERY_ROW,
           headers=(*JSON_TYPE, ("Content-Encoding", "identity"))),
]

# --------------------------------------------- what jsonb or text cannot hold

HARD_JSON = [
    stored("byte_order_mark", b"\xef\xbb\xbf" + encode(DELIVERY), DELIVERY_ROW, raw=True),
    stored("nul_in_text", encode(SMS).replace(b"Hello", b"He\\u0000llo"),
           {**SMS_ROW, "body": "He\ufffdllo, I need help with my order"}, raw=True),
    stored("nul_in_id", encode(DELIVERY).replace(b"abc123", b"abc\\u0000"),
           {**DELIVERY_ROW, "message_id": "abc\ufffd"}, raw=True),
    stored("nul_in_name", encode(DELIVERY)[:-1] + b',"event\\u0000":"x"}', DELIVERY_ROW,
           raw=True),
    stored("lone_high_surrogate", encode(SMS).replace(b"Hello", b"\\ud83d!"),
           {**SMS_ROW, "body": "\ufffd!, I need help with my order"}, raw=True),
    stored("lone_low_surrogate", encode(SMS).replace(b"Hello", b"\\udc4d"),
           {**SMS_ROW, "body": "\ufffd, I need help with my order"}, raw=True),
    stored("number_1e400", encode(DELIVERY)[:-1] + b',"x":1e400}', DELIVERY_ROW),
    stored("number_beyond_numeric", encode(DELIVERY)[:-1] + b',"x":1e1000000}', DELIVERY_ROW,
           raw=True),
    stored("number_as_text", encode(SMS).replace(b'"Hello, I need help with my order"',
                                                 b"1e400"), {**SMS_ROW, "body": "1e400"}),
    stored("object_as_text", {**SMS, "message": {"a": 1}}, {**SMS_ROW, "body": '{"a":1}'}),
    stored("depth_32", encode(DELIVERY)[:-1] + b',"x":' + b"[" * 31 + b"]" * 31 + b"}",
           DELIVERY_ROW),
    stored("quotes_and_sql", {**SMS, "message": "'); drop table sms.event; -- \" \\ $$"},
           {**SMS_ROW, "body": "'); drop table sms.event; -- \" \\ $$"}),
    stored("braces_and_commas", {**SMS, "phone": "{a,b}", "message": "{NULL,\"x\"}"},
           {**SMS_ROW, "phone": "{a,b}", "body": "{NULL,\"x\"}"}),
    stored("word_null", {**SMS, "phone": "NULL", "message": "NULL"},
           {**SMS_ROW, "phone": "NULL", "body": "NULL"}),
    stored("long_text", {**SMS, "message": "Ж" * 30000}, {**SMS_ROW, "body": "Ж" * 30000}),
    stored("long_id", {**DELIVERY, "message_id": "i" * 20000},
           {**DELIVERY_ROW, "message_id": "i" * 20000}),
]

# ------------------------------------------------------------------ tokens

AUTH = "Authorization"
TOKENS = [
    stored("token_second", DELIVERY, DELIVERY_ROW, path="/{second}"),
    stored("token_trailing_slash", DELIVERY, DELIVERY_ROW, path="/{token}/"),
    stored("token_double_slash", DELIVERY, DELIVERY_ROW, path="//{token}"),
    stored("token_percent_encoded", DELIVERY, DELIVERY_ROW, path="/{encoded}"),
    stored("token_query", DELIVERY, DELIVERY_ROW, path="/", query="token={token}"),
    stored("token_query_no_slash", DELIVERY, DELIVERY_ROW, path="", query="token={token}"),
    stored("token_query_among", DELIVERY, DELIVERY_ROW, path="/",
           query="a=1&token={token}&b=token"),
    stored("token_query_encoded", DELIVERY, DELIVERY_ROW, path="/", query="token={encoded}"),
    stored("token_query_twice", DELIVERY, DELIVERY_ROW, path="/",
           query="token={token}&token={token}"),
    stored("token_bearer", DELIVERY, DELIVERY_ROW, path="/",
           headers=(*JSON_TYPE, (AUTH, "Bearer {token}"))),
    stored("token_bearer_lower_case", DELIVERY, DELIVERY_ROW, path="/",
           headers=(*JSON_TYPE, (AUTH, "bearer {token}"))),
    stored("token_bearer_no_slash", DELIVERY, DELIVERY_ROW, path="",
           headers=(*JSON_TYPE, (AUTH, "Bearer {token}"))),
    stored("token_basic", DELIVERY, DELIVERY_ROW, path="/",
           headers=(*JSON_TYPE, (AUTH, "{basic}"))),
    stored("token_header", DELIVERY, DELIVERY_ROW, path="/",
           headers=(*JSON_TYPE, ("X-Webhook-Token", "{token}"))),
    stored("token_right_header_wrong_path", DELIVERY, DELIVERY_ROW, path="/{wrong}",
           headers=(*JSON_TYPE, (AUTH, "Bearer {token}"))),
    stored("token_right_path_wrong_header", DELIVERY, DELIVERY_ROW,
           headers=(*JSON_TYPE, (AUTH, "Bearer {wrong}"))),
    stored("token_after_dots", DELIVERY, DELIVERY_ROW, path="/x/../{token}",
           on=on((DIRECT, {"status": 401, "event": None}))),
    stored("token_encoded_slash", DELIVERY, DELIVERY_ROW, path="/%2F{token}",
           on=on((APACHE, by_server(404)))),
    stored("token_slashes_around", DELIVERY, DELIVERY_ROW, path="//{token}//"),
    stored("token_and_an_empty_member", DELIVERY, DELIVERY_ROW, query="&"),
    stored("token_among_1000_members", DELIVERY, DELIVERY_ROW, path="/",
           query="a=b&" * 1000 + "token={token}"),
    stored("token_in_two_places", DELIVERY, DELIVERY_ROW, query="token={wrong}"),
    stored("token_in_all_places", DELIVERY, DELIVERY_ROW, query="token={token}", headers=(
        *JSON_TYPE, (AUTH, "Bearer {token}"), ("X-Webhook-Token", "{token}"))),
    stored("token_after_a_dot", DELIVERY, DELIVERY_ROW, path="/./{token}",
           on=on((DIRECT, {"status": 401, "event": None}))),
    stored("token_beside_8_kb", DELIVERY, DELIVERY_ROW, query="x" * 8000),
    refused("token_query_wrong_then_right", 401, path="/", query="token={wrong}&token={token}"),
    stored("token_query_right_then_wrong", DELIVERY, DELIVERY_ROW, path="/",
           query="token={token}&token={wrong}"),
    refused("token_query_name_encoded", 401, path="/", query="%74oken={token}",
            on=on(("lighttpd", {"status": 200, "event": DELIVERY_ROW}))),
    refused("token_query_upper_case", 401, path="/", query="TOKEN={token}"),
    refused("token_header_twice", 401, path="/", headers=(
        *JSON_TYPE, ("X-Webhook-Token", "{wrong}"), ("X-Webhook-Token", "{wrong}"))),
    refused("token_dots_after", 401, path="/{token}/.."),
    refused("token_dots_encoded", 401, path="/%2e%2e/{wrong}",
            on=on((SERVERS, by_server(403, 404)))),
    refused("token_dots_out", 401, path="/../../{wrong}", on=on((SERVERS, by_server(400, 404)))),
    refused("token_semicolon", 401, path="/{token};x=1"),
    refused("token_backslash", 401, path="/\\{token}"),
    refused("token_plus", 401, path="/+{token}"),
    refused("token_bad_percent", 401, path="/%zz{wrong}",
            on=on((("nginx", *APACHE), by_server(400)))),
    refused("token_percent_alone", 401, path="/{wrong}%",
            on=on((("nginx", *APACHE), by_server(400)))),
    refused("token_percent_twice", 401, path="/%25{encoded}"),
    refused("token_after_nul", 400, path="/%00{wrong}",
            on=on((DIRECT, skip("no environment holds a NUL")), ("nginx", by_server(400)),
                  (APACHE, by_server(400, 404)), ("lighttpd", by_server(400)))),
    refused("token_overlong_utf8", 401, path="/%C0%AF{wrong}",
            on=on(("lighttpd", by_server(400)))),
    refused("token_escape_codes", 401, path="/%1B%5B2J{wrong}",
            on=on(("lighttpd", by_server(400)))),
    refused("uri_of_8_kb", 401, path="/" + "x" * 8000),
    refused("token_missing", 401, path="/"),
    refused("token_missing_no_slash", 401, path=""),
    refused("token_wrong", 401, path="/{wrong}"),
    refused("token_wrong_query", 401, path="/", query="token={wrong}"),
    refused("token_empty_query", 401, path="/", query="token="),
    refused("token_other_member", 401, path="/", query="xtoken={token}"),
    refused("token_wrong_bearer", 401, path="/", headers=((AUTH, "Bearer {wrong}"),)),
    refused("token_wrong_basic", 401, path="/", headers=((AUTH, "Basic {wrong}"),)),
    refused("token_as_basic_user", 401, path="/",
            headers=((AUTH, "Basic e3Rva2VufTo="),)),
    refused("token_other_scheme", 401, path="/", headers=((AUTH, "Digest {token}"),)),
    refused("token_cut", 401, path="/{cut}"),
    refused("token_longer", 401, path="/{token}0"),
    refused("token_with_space", 401, path="/{token}%20"),
    refused("token_with_dot", 401, path="/{token}."),
    refused("token_with_newline", 401, path="/{token}%0A", on=on(("lighttpd", by_server(400)))),
    refused("token_upper_case", 401, path="/{upper}"),
    refused("token_and_more", 401, path="/{token}/x"),
    refused("token_after_more", 401, path="/x/{token}"),
    refused("token_twice", 401, path="/{token}/{token}"),
    refused("token_with_nul", 400, path="/{token}%00",
            on=on((DIRECT, skip("no environment holds a NUL")), ("nginx", by_server(400)),
                  (APACHE, by_server(400, 404)), ("lighttpd", by_server(400)))),
    refused("token_utf8", 401, path="/%C3%A9"),
    refused("uri_of_9_kb", 401, path="/" + "x" * 9000,
            on=on((("nginx", *APACHE), by_server(414)), ("lighttpd", by_server(414, 431)))),
    refused("token_wrong_and_no_json", 401, "CANARY", path="/{wrong}"),
]

# ----------------------------------------------------------------- methods

METHODS = [
    refused(f"method_{m.lower()}", 405, b"", method=m, allow="POST")
    for m in ("GET", "HEAD", "OPTIONS", "DELETE")
] + [
    refused(f"method_{m.lower()}", 405, method=m, allow="POST") for m in ("PUT", "PATCH")
] + [
    refused("method_before_token", 405, b"", method="GET", path="/{wrong}", allow="POST"),
    refused("method_of_nobody", 405, method="BREW", allow="POST",
            on=on(("lighttpd", by_server(501)))),
    refused("method_longer_than_post", 405, method="POSTS", allow="POST",
            on=on(("lighttpd", by_server(501)))),
    refused("method_lower_case", 405, method="post", allow="POST",
            on=on(("nginx", by_server(400)), ("lighttpd", by_server(501)))),
    refused("method_propfind", 405, method="PROPFIND", allow="POST"),
    refused("method_trace", 405, b"", method="TRACE", allow="POST",
            on=on(("nginx", by_server(405)), (APACHE, by_server(200, 405)))),
    refused("method_connect", 405, b"", method="CONNECT", allow="POST",
            on=on((SERVERS, by_server(400, 405, 501)))),
    refused("method_on_base", 405, b"", method="GET", path="/", allow="POST"),
    refused("method_post_healthz", 405, path="/healthz", allow="GET, HEAD"),
    refused("healthz", 200, b"", method="GET", path="/healthz"),
    refused("healthz_slash", 200, b"", method="GET", path="/healthz/"),
    refused("healthz_head", 200, b"", method="HEAD", path="/healthz"),
    refused("metrics", 200, b"", method="GET", path="/metrics",
            on=on((("cgi", "apache-cgid"), {"status": 404}))),
]

# ------------------------------------------------- lengths and ways to send


def sized(n):
    """A body of n bytes that is DELIVERY."""
    body = encode(DELIVERY)
    return body + b" " * (n - len(body))


# These count a body themselves, and refuse it before the receiver sees it.
COUNTING = ("nginx", "apache-cgid", "lighttpd")
LENGTHS = [
    stored("chunked", DELIVERY, DELIVERY_ROW, send="chunked"),
    stored("chunked_5_kb", sized(5000), DELIVERY_ROW, send="chunked"),
    stored("chunked_60_kb", sized(60000), DELIVERY_ROW, send="chunked"),
    rejected("chunked_not_json", b"x" * 3000, 400, send="chunked"),
    stored("expect_100_continue", DELIVERY, DELIVERY_ROW, send="expect"),
    stored("expect_100_continue_60_kb", sized(60000), DELIVERY_ROW, send="expect"),
    stored("body_of_max_body", sized(MAX_BODY), DELIVERY_ROW),
    stored("body_of_max_body_chunked", sized(MAX_BODY), DELIVERY_ROW, send="chunked"),
    refused("body_over_max_body", 413, sized(MAX_BODY + 1),
            on=on((COUNTING, by_server(413)))),
    refused("body_of_300_kb", 413, sized(300000), on=on((COUNTING, by_server(413)))),
    refused("body_of_2_mb", 413, sized(2000000),
            on=on((COUNTING, by_server(413)), ("apache-fcgid", by_server(500)))),
    refused("body_over_max_body_chunked", 413, sized(MAX_BODY + 1), send="chunked",
            on=on((COUNTING, by_server(413)))),
    refused("body_of_300_kb_chunked", 413, sized(300000), send="chunked",
            on=on((COUNTING, by_server(413)))),
    refused("body_over_max_body_expect", 413, sized(MAX_BODY + 1), send="expect",
            on=on((COUNTING, by_server(413)))),
    refused("body_over_max_body_wrong_token", 401, sized(MAX_BODY + 1), path="/{wrong}",
            on=on((COUNTING, by_server(413)))),
    refused("body_cut_short", 400, send="cut",
            on=on((("nginx", "lighttpd"), by_server(None)),
                  ("apache-proxy", by_server(400)), ("apache-cgid", by_server(400)),
                  ("apache-fcgid", by_server(500)))),
    refused("body_cut_short_empty", 400, b"", send="cut",
            on=on((("nginx", "lighttpd"), by_server(None)),
                  ("apache-proxy", by_server(400)), ("apache-cgid", by_server(400)),
                  ("apache-fcgid", by_server(500)))),
    refused("body_cut_short_wrong_token", 401, send="cut", path="/{wrong}",
            on=on((("nginx", "lighttpd"), by_server(None)),
                  ("apache-proxy", by_server(400)), ("apache-cgid", by_server(400)),
                  ("apache-fcgid", by_server(500)))),
] + [
    refused(f"length_{name}", 400, length=value, on=on((SERVERS, by_server(400, 413))))
    for name, value in (("words", "abc"), ("minus", "-1"), ("plus", "+5"), ("hex", "0x10"),
                        ("fraction", "1.5"), ("list", "5, 5"))
] + [
    refused("length_beyond_64_bits", (400, 413), length="99999999999999999999",
            on=on((SERVERS, by_server(400, 413)))),
    refused("length_beyond_max_body", 413, length="70000",
            on=on((SERVERS, skip("the client would wait for the rest")))),
]

# --------------------------------------------------------------- duplicates

DUPLICATES = [
    stored("duplicate", DELIVERY, DELIVERY_ROW, times=2),
    stored("duplicate_thrice", SMS, SMS_ROW, times=3),
    stored("duplicate_raw", b"\xef\xbb\xbf" + encode(SMS), SMS_ROW, times=2, raw=True),
]

CASES = (DIALECTS + STATUSES + DATETIMES + PHONES + NO_EVENTS + NOT_JSON + OTHER_TYPES
         + HARD_JSON + TOKENS + METHODS + LENGTHS + DUPLICATES)
