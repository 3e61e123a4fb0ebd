"""A real browser for tests: Debian's Chromium, by Playwright's core in Node."""
import base64
import json
import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

import process
from pages import modules
from process import Process, new_folder, tool, write

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def screenshots():
    folder = Path(os.environ["SMSHOOK_BUILD"]) / "screenshots"
    folder.mkdir(exist_ok=True)
    return folder


class Browser:
    """One Chromium for all tests; each page has cookies of its own."""

    def __init__(self, top):
        node, chromium, core = tool("node"), tool("chromium"), modules("playwright-core")
        if not (node and chromium and core):
            pytest.skip("not installed: chromium, Node or its package playwright-core")
        self.folder = new_folder(top, "browser")
        shutil.copytree(core / "playwright-core", self.folder / "node_modules/playwright-core")
        script = write(self.folder / "browser.js",
                       Path(__file__).with_name("browser.js").read_bytes())
        home = new_folder(self.folder, "home")
        self.process = Process(
            [node, script, chromium, 1000 * process.SLOW], self.folder / "browser.log",
            {"HOME": str(home), "TMPDIR": str(home)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, method, page, *arguments):
        assert self.process.running(), f"the browser has ended: {self.process.text()}"
        self.process.popen.stdin.write(json.dumps([method, page, *arguments]).encode() + b"\n")
        self.process.popen.stdin.flush()
        out = self.process.popen.stdout
        ready = select.select([out], [], [], 3 * process.SLOW)[0]
        line = out.readline() if ready else b""
        if not line:
            self.process.kill()  # a late line would be the answer to the next call
        assert line, f"the browser does not answer: {self.process.text()}"
        answer = json.loads(line)
        assert "error" not in answer, f"{method} {arguments}: {answer['error']}"
        return answer["value"]

    def page(self, width=WIDE["width"], height=None, dark=False):
        is_phone = width < 600
        number = self.ask("open", None, {
            "viewport": {"width": width, "height": height or (PHONE if is_phone else WIDE)["height"]},
            "colorScheme": "dark" if dark else "light", "locale": "en-GB", "timezoneId": "UTC",
            "isMobile": is_phone, "hasTouch": is_phone, "deviceScaleFactor": 2 if is_phone else 1})
        return BrowserPage(self, number)

    def stop(self):
        self.process.popen.stdin.close()
        self.process.wait()


class BrowserPage:
    """Selectors are Playwright's: css, text=..., role=...; all wait until an element is there."""

    def __init__(self, browser, number):
        self.browser, self.number = browser, number

    def ask(self, method, *arguments):
        return self.browser.ask(method, self.number, *arguments)

    def tab(self):
        """Another page with the same cookies."""
        return BrowserPage(self.browser, self.ask("tab"))

    def open(self, url):
        """The status of the answer."""
        return self.ask("goto", url)

    def reload(self):
        return self.ask("reload")

    def back(self):
        return self.ask("back")

    def url(self):
        return self.ask("url")

    def title(self):
        return self.ask("title")

    def wait(self, selector, text=None):
        """Until it is visible, and has the text in it."""
        self.ask("wait", selector, text, "visible")

    def wait_gone(self, selector):
        self.ask("wait", selector, None, "hidden")

    def text(self, selector):
        return self.ask("text", selector)

    def texts(self, selector):
        """Of all that there are now."""
        return self.ask("texts", selector)

    def count(self, selector):
        return self.ask("count", selector)

    def attribute(self, selector, name):
        return self.ask("attribute", selector, name)

    def click(self, selector):
        self.ask("click", selector)

    def fill(self, selector, text):
        self.ask("fill", selector, text)

    def press(self, selector, key):
        self.ask("press", selector, key)

    def evaluate(self, script):
        return self.ask("evaluate", script)

    def offline(self, is_offline):
        self.ask("offline", is_offline)

    def errors(self):
        """Of the console, of scripts, of requests that failed, and dialogs that opened."""
        return self.ask("seen")["errors"]

    def requests(self):
        """'GET http://...' each, so far."""
        return self.ask("seen")["requests"]

    def screenshot(self, name, whole=False):
        """A PNG in the build folder's screenshots; whole: of what is below the edge, too."""
        data = base64.b64decode(self.ask("screenshot", {"fullPage": whole}))
        (screenshots() / f"{name}.png").write_bytes(data)

    def close(self):
        self.ask("close")
