"""Drives Chromium over its debugging pipe: real clicks and keys on a page that net2dot made.

Usage: net2dot.py PAGE SCREENSHOT. Prints one line a check; exits 1 when one failed.
"""
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

DEADLINE = 20


class Browser:
    """The DevTools protocol over file descriptors 3 and 4, a NUL after each message."""

    def __init__(self, program, profile):
        to_browser, self.out = os.pipe()
        self.inp, from_browser = os.pipe()
        os.set_inheritable(to_browser, True)
        os.set_inheritable(from_browser, True)

        # Away from 3 and 4 first: either may be one of the pipe's own.
        def place():
            high = [os.dup2(to_browser, 103), os.dup2(from_browser, 104)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.child = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             "--window-size=1400,900", f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=place, close_fds=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        os.set_blocking(self.inp, False)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.events = []

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + DEADLINE
        while True:
            answer = self.receive(end)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def receive(self, end):
        while b"\0" not in self.buffer:
            if time.monotonic() > end:
                raise TimeoutError("the browser does not answer")
            try:
                data = os.read(self.inp, 1 << 20)
            except BlockingIOError:
                time.sleep(0.005)
                continue
            if not data:
                raise RuntimeError("the browser ended")
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def until(self, expression):
        end = time.monotonic() + DEADLINE
        while not self.value(expression):
            if time.monotonic() > end:
                raise TimeoutError(expression)
            time.sleep(0.02)

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector):
        x, y = self.value(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [it.x + it.width / 2, it.y + it.height / 2]; })()")
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", clickCount=1)
        self.mouse("mouseReleased", x, y, button="left", clickCount=1)

    def key(self, key, text=None):
        more = {"text": text} if text else {}
        code = {"Enter": 13, "Tab": 9, "Escape": 27}.get(key, 0)
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


def main():
    page, screenshot = sys.argv[1:3]
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    failed = []

    def check(what, holds):
        print(("ok " if holds else "FAIL ") + what)
        if not holds:
            failed.append(what)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            drive(browser, page, screenshot, check)
        finally:
            browser.child.kill()
            browser.child.wait()
    return 1 if failed else 0


LIT = "[...document.querySelectorAll('g.lit')].map((it) => it.dataset.key).sort().join(' ')"
PANEL = "document.getElementById('panel').textContent"
SCALE = "Number(document.querySelector('#canvas svg').style.transform.match(/scale\\(([^)]*)/)[1])"
TRANSFORM = "document.querySelector('#canvas svg').style.transform"
FRAMES = """new Promise((done) => {
  const times = [];
  let last = performance.now();
  const tick = (now) => {
    times.push(now - last);
    last = now;
    const key = times.length % 2 ? 'ArrowLeft' : 'ArrowRight';
    document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    if (times.length < 90) requestAnimationFrame(tick);
    else done(times.slice(5).sort((a, b) => a - b));
  };
  requestAnimationFrame(tick);
})"""


def drive(browser, page, screenshot, check):
    browser.open("file://" + os.path.abspath(page))
    browser.until(f"{TRANSFORM} !== ''")
    count = browser.value("document.querySelectorAll('g[data-key]').length")
    check("every node and bridge can be reached", count > 0 and count == browser.value(
        "document.querySelectorAll('g[data-key][tabindex=\"0\"][role=button][aria-label]').length"))

    browser.click("g[data-segment='0'] text")
    lit = browser.value(LIT).split()
    members = browser.value(
        "[...new Set(JSON.parse(document.getElementById('data').textContent).links"
        ".filter((it) => it.segment === 0).map((it) => 'n' + it.node))].sort().join(' ')").split()
    check("a click on a bridge lights its members", sorted(lit) == sorted([*members, "s0"]))
    check("and lists them", "Members" in browser.value(PANEL))

    browser.click("g[data-node='0'] text")
    check("a click on a node shows its addresses and MAC", all(
        it in browser.value(PANEL) for it in ("eth0", "ip", "mac", "mtu")))
    browser.key("Escape")
    check("Escape chooses nothing", browser.value(LIT) == "")

    before = browser.value(TRANSFORM)
    browser.mouse("mousePressed", 500, 600, button="left", clickCount=1)
    browser.mouse("mouseMoved", 560, 620, button="left", buttons=1)
    browser.mouse("mouseReleased", 560, 620, button="left", clickCount=1)
    browser.until(f"{TRANSFORM} !== {json.dumps(before)}")
    check("dragging moves", True)
    before = browser.value(TRANSFORM)
    browser.mouse("mouseWheel", 400, 400, deltaX=0, deltaY=-240)
    browser.until(f"{TRANSFORM} !== {json.dumps(before)}")
    check("the wheel zooms", "scale" in browser.value(TRANSFORM))
    browser.click("#fit")

    browser.click("#search")
    address = browser.value(
        "JSON.parse(document.getElementById('data').textContent).links.find((it) => it.ip.length).ip[0]")
    browser.call("Input.insertText", text=address)
    check("an address is found", browser.value("document.querySelectorAll('g.hit').length") >= 1)
    check("and the number is said", "found" in browser.value("document.getElementById('live').textContent"))
    fitted = browser.value(SCALE)
    browser.key("Enter", "\r")
    browser.until("document.getElementById('live').textContent.startsWith('1 of ')")
    check("Enter zooms to what was found", browser.value(
        f"new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done({SCALE}))))") >= fitted)
    check("which is in the middle then", browser.value(
        "(() => { const it = document.querySelector('g.hit').getBoundingClientRect(),"
        " at = document.getElementById('canvas').getBoundingClientRect();"
        " return Math.hypot(it.x + it.width / 2 - at.x - at.width / 2, it.y + it.height / 2 - at.y - at.height / 2); })()") < 3)
    browser.key("Escape")

    browser.value(
        "(() => { const [a, b] = ['from', 'to'].map((it) => document.getElementById(it));"
        " a.selectedIndex = 1; b.selectedIndex = 2;"
        " for (const it of [a, b]) it.dispatchEvent(new Event('change')); })()")
    check("the path between two nodes is lit", len(browser.value(LIT).split()) >= 3)
    check("and said", browser.value("document.getElementById('live').textContent").startswith("path: "))
    picture = browser.call("Page.captureScreenshot", format="png")["data"]
    with open(screenshot, "wb") as file:
        file.write(base64.b64decode(picture))
    browser.key("Escape")

    browser.value("document.querySelector('g[data-key]').focus()")
    browser.key("Enter", "\r")
    check("Enter on a node chooses it", browser.value("document.querySelectorAll('g.lit').length") >= 1)

    times = browser.value(FRAMES)
    middle, worst = times[len(times) // 2], times[int(len(times) * 0.95)]
    print(f"frames while moving: median {middle:.1f} ms, 95 % within {worst:.1f} ms")
    check("moving takes less than 50 ms a frame", middle < 50)

    asked = [it["params"]["request"]["url"] for it in browser.events
             if it.get("method") == "Network.requestWillBeSent"]
    check("nothing but the page is asked for", all(it.startswith(("file:", "data:")) for it in asked))
    wrong = [it for it in browser.events if it.get("method") == "Runtime.exceptionThrown"
             or it.get("method") == "Log.entryAdded" and it["params"]["entry"]["level"] == "error"]
    check("no error is logged", not wrong)
    for it in wrong[:3]:
        print(json.dumps(it["params"])[:400])


if __name__ == "__main__":
    sys.exit(main())
