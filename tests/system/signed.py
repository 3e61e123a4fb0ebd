"""Who signs what it posts: Standard Webhooks and the HMAC-SHA256 of a body, by
Python's own hmac, and sources that ask for them."""
import base64
import hashlib
import hmac
import secrets
import time

import canary
from drivers import Request


def new_key():
    """32 bytes that no log may hold, in any writing."""
    return (canary.TOKEN + secrets.token_hex(13)).encode()


def written(key):
    return "whsec_" + base64.b64encode(key).decode()


KEYS = {name: [new_key(), new_key()] for name in ("relay", "hub", "plain")}

# Each has two keys, as amid a rotation.
SOURCES = {
    "relay": "signature = standard-webhooks\n" + "".join(
        f"signature_key = {written(key)}\n" for key in KEYS["relay"]),
    "hub": "signature = hmac-sha256\nsignature_header = X-Hub-Signature-256\n" + "".join(
        f"signature_key = {key.decode()}\n" for key in KEYS["hub"]),
    "plain": "signature = hmac-sha256\n" + "".join(
        f"signature_key = {key.decode()}\n" for key in KEYS["plain"]),
}


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256)


def standard(key, body, at=0, number="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"):
    """Headers of a webhook that is sent so many seconds from now."""
    when = str(int(time.time()) + at)
    made = base64.b64encode(mac(key, f"{number}.{when}.".encode(), body).digest()).decode()
    return {"webhook-id": number, "webhook-timestamp": when, "webhook-signature": "v1," + made}


def plain(key, body, header="X-Signature"):
    return {header: mac(key, body).hexdigest()}


def post(token, body, headers):
    return Request(f"/{token}", body,
                   headers=(("Content-Type", "application/json"), *headers.items()))
