"""Many posts at once."""
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import fcgi_client
from drivers import cgi_variables, parse_cgi, post


def sms(text, phone="+4915112345678"):
    return json.dumps({"event": "incoming_sms", "phone": phone, "message": text}).encode()


def delivery(message_id, status, at=None):
    return json.dumps({"event": "delivery_status", "message_id": message_id,
                       "status": status, "timestamp": at}).encode()


def at_once(send, requests):
    """Each request in a thread of its own; the answers in their order."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


class Kept:
    """One kept FastCGI connection, a request after the other."""

    def __init__(self, address):
        self.connection = fcgi_client.Connection(address, 60)

    def send(self, request):
        return parse_cgi(self.connection.ask(cgi_variables(request), request.body,
                                             keep=True))

    def close(self):
        self.connection.close()


class Threads:
    """That work until they are told to stop; an error of theirs is told then.
    Whoever inherits has stopping, an event, threads and errors."""

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors[0]


class Load(Threads):
    """n threads that post until they are told to stop.  make_sender() gives
    each its sender; every answer is kept with the text that it is of."""

    def __init__(self, n, token, make_sender):
        self.token, self.make_sender = token, make_sender
        self.stopping = threading.Event()
        self.answers, self.errors = [], []
        self.threads = [threading.Thread(target=self.work, args=(i,)) for i in range(n)]
        for thread in self.threads:
            thread.start()

    def work(self, i):
        try:
            sender, n = self.make_sender(), 0
            while not self.stopping.is_set():
                text = f"{id(self)}-{i}-{n}"
                self.answers.append((text, sender.send(post(self.token, sms(text)))))
                n += 1
        except Exception as e:  # told by stop(), which the test calls
            self.errors.append(e)

    def stop(self):
        super().stop()
        return self.answers
