"""Sources whose senders sign: what is signed right is let in, what is not is kept
aside, and goes in when somebody names it."""
import base64
import json
import time

import pytest

import receiver as rx
from drivers import Fcgi, Request
from load import sms
from process import new_folder, run
from signed import KEYS, SOURCES, mac, new_key, plain, post, standard
from spooldir import Spool

OTHER = new_key()


def hub(key, body):
    return plain(key, body, "X-Hub-Signature-256")


SIGN = {"relay": standard, "hub": hub, "plain": plain}
NOT_FITTING, MISSING, TOO_FAR = "fits neither the body nor a key", "is missing", "too far"


def without(headers, name):
    return {k: v for k, v in headers.items() if k != name}


def right(source, body):
    """Headers that let it in."""
    first, second = KEYS[source]
    sign = SIGN[source]
    yield from (sign(first, body), sign(second, body))
    if source == "relay":
        made = standard(first, body, -200)
        for more in ("v1,{1} v1,{0}", "v2,{0} v1a,{1} v1,{0}"):
            signatures = more.format(made["webhook-signature"][3:], "A" * 43 + "=")
            yield {**made, "webhook-signature": signatures}
        yield standard(second, body, 200)
        yield {name.replace("webhook", "svix"): value for name, value in made.items()}
    else:
        (name, value), = sign(first, body).items()
        yield {name: "sha256=" + value}
        yield {name.lower(): value.upper()}
        yield {name: base64.b64encode(bytes.fromhex(value)).decode()}


def wrong(source, body):
    """(headers that do not, what the sender and the administrator are told)."""
    first = KEYS[source][0]
    sign = SIGN[source]
    yield {}, MISSING
    yield sign(OTHER, body), NOT_FITTING
    yield sign(first, body + b" "), NOT_FITTING
    if source == "relay":
        made = standard(first, body)
        for name in made:
            yield without(made, name), MISSING
        yield {**made, "webhook-id": made["webhook-id"] + "x"}, NOT_FITTING
        yield {**made, "webhook-timestamp": str(int(time.time()) + 7)}, NOT_FITTING
        yield {**made, "webhook-timestamp": "now"}, "no Unix time"
        yield {**made, "webhook-signature": made["webhook-signature"][3:]}, NOT_FITTING
        yield standard(first, body, -400), TOO_FAR
        yield standard(first, body, 400), TOO_FAR
        yield plain(first, body), MISSING
        yield {name.replace("webhook", "svix"): made[name] for name in list(made)[:2]}, MISSING
    else:
        yield (plain if source == "hub" else hub)(first, body), MISSING
        (name, value), = sign(first, body).items()
        yield {name: value[:-1]}, NOT_FITTING
        yield {name: "sha1=" + value}, NOT_FITTING


@pytest.mark.parametrize("source", SIGN)
def test_signed(source, driver, site):
    site.database.empty()
    token = site.tokens[source][0]
    n = len(list(right(source, b"")))
    bodies = [sms(f"{source} {i}") for i in range(n)]
    for i, body in enumerate(bodies):
        headers = list(right(source, body))[i]
        answer = driver.send(post(token, body, headers))
        assert answer.status == 200, (headers, answer)
        assert json.loads(answer.body)["result"] == "stored"
    assert [e["body"] for e in site.database.events()] == [
        json.loads(b)["message"] for b in bodies]
    assert site.database.rejected() == []


@pytest.mark.parametrize("source", SIGN)
def test_signed_wrong(source, driver, site):
    """401 with a sentence of its own, and nothing is lost."""
    site.database.empty()
    token = site.tokens[source][0]
    body = sms(source)
    nobody = driver.send(post("w" * 32, body, SIGN[source](KEYS[source][0], body)))
    cases = list(wrong(source, body))
    for headers, reason in cases:
        answer = driver.send(post(token, body, headers))
        assert answer.status == 401, headers
        assert answer.header("content-type") == "application/problem+json"
        detail = json.loads(answer.body)["detail"]
        assert "The token is right, but not the signature" in detail and reason in detail
        assert answer.body != nobody.body
    rows = site.database.rejected()
    assert len(rows) == len(cases), "and nothing of who has no token"
    for row, (_, reason) in zip(rows, cases):
        assert (row["http_status"], row["source"], bytes(row["body"])) == (401, source, body)
        assert row["reason"].startswith("signature: ") and reason in row["reason"]
    assert site.database.events() == []


def test_signature_before_all_else(site):
    """Of the bytes as they came; who has signed them is told what is wrong with them."""
    site.database.empty()
    token, (key, _) = site.tokens["plain"][0], KEYS["plain"]
    driver = site.driver("fcgi")
    for body, status in ((b"no JSON", 400), (b'{"x":1}', 422), (b"", 400)):
        assert driver.send(post(token, body, plain(key, body))).status == status
        assert driver.send(post(token, body, plain(OTHER, body))).status == 401
    assert [r["http_status"] for r in site.database.rejected()] == [400, 401, 422, 401, 400, 401]
    cut = Request(f"/{token}", b"{}", headers=(*plain(OTHER, b"{}").items(),), send="cut")
    assert driver.send(cut).status == 400
    too_large = post(token, b" " * 70000, {})
    assert driver.send(too_large).status == 413
    assert len(site.database.rejected()) == 6, "what is no whole body is not kept"


def test_signature_of_one_source_is_none_of_another(site):
    site.database.empty()
    body = sms("one")
    driver = site.driver("fcgi")
    for source in ("hub", "relay"):
        headers = {**plain(KEYS["plain"][0], body), **hub(KEYS["plain"][0], body),
                   **standard(KEYS["plain"][0], body)}
        assert driver.send(post(site.tokens[source][0], body, headers)).status == 401
    # and who asks for none takes all
    assert driver.send(post(site.tokens["main"][0], body, hub(OTHER, body))).status == 200


# ------------------------------------------------------- away, and tried again

def config(conninfo, token, spool, keys=KEYS["plain"]):
    lines = "".join(f"signature_key = {key.decode()}\n" for key in keys)
    return rx.config_text(conninfo, {"shop": f"token = {token}\nsignature = hmac-sha256\n{lines}"},
                          database=f"timeout = 2s\n[spool]\ndirectory = {spool}\n")


def test_signed_while_postgresql_is_away(start, programs, top, database, token):
    database.empty()
    spool = Spool(new_folder(top, "spool"))
    good, forged = sms("good"), sms("forged")
    r = start(config("host=/nonexistent dbname=x", token, spool.folder))
    driver = Fcgi(r.address())
    assert json.loads(driver.send(post(token, good, plain(KEYS["plain"][0], good))).body) == {
        "result": "spooled"}
    assert driver.send(post(token, forged, plain(OTHER, forged))).status == 401
    r.stop()
    kept = {e.body: e.rejected for e in spool.events()}
    assert kept[good] is None and kept[forged].startswith("401 signature: ")
    owner = rx.write_config(top, config(database.writer, token, spool.folder))
    assert run([programs / "smshook", "-c", owner, "spool", "drain"]).returncode == 0
    assert [e["body"] for e in database.events()] == ["good"]
    (row,) = database.rejected()
    assert (row["http_status"], bytes(row["body"])) == (401, forged)
    assert NOT_FITTING in row["reason"]


def test_retry_needs_a_name(start, programs, top, database, token):
    """Else whoever knows the address could send forged bodies, and wait."""
    database.empty()
    spool = new_folder(top, "spool")
    driver = Fcgi(start(config(database.writer, token, spool)).address())
    forged, genuine = sms("forged"), sms("genuine")
    for body in (forged, genuine):
        assert driver.send(post(token, body, plain(OTHER, body))).status == 401
    one, two = database.rejected()
    owner = rx.write_config(top, config(
        database.postgres.conninfo(database.name), token, spool))

    def retry(*numbers):
        done = run([programs / "smshook", "-c", owner, "rejected", "retry", *numbers])
        assert done.returncode == 0, done
        return done.stdout.decode(), done.stderr.decode()

    said, warned = retry()
    assert "0 are events now, 2 stay" in said
    assert warned.count("its signature was wrong; name its id") == 2
    assert database.events() == [] and database.rejected() == [one, two]
    said, _ = retry(str(two["id"]))
    assert "1 are events now, 0 stay" in said
    (event,) = database.events()
    assert (event["body"], event["received_at"]) == ("genuine", two["received_at"])
    assert database.rejected() == [one]


def test_keys_change_without_a_gap(start, database, token, top):
    """Two keys, a reload: then the one that is gone ends."""
    database.empty()
    spool = new_folder(top, "spool")
    old, new = new_key(), new_key()
    r = start(config(database.writer, token, spool, [old, new]))
    driver = Fcgi(r.address())

    def status(key, text):
        return driver.send(post(token, sms(text), plain(key, sms(text)))).status
    assert [status(old, "1"), status(new, "2")] == [200, 200]
    r.reload(config(database.writer, token, spool, [new]))
    assert [status(old, "3"), status(new, "4")] == [401, 200]


def test_mac_is_that_of_rfc_4231():
    """Case 2: that the tests and the program agree proves nothing by itself."""
    assert mac(b"Jefe", b"what do ya want for nothing?").hexdigest() == (
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")


def test_every_source_signs():
    assert set(SIGN) == set(SOURCES)
