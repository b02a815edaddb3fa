"""Firefox and WebKit through the standards that they speak: WebDriver BiDi and WebDriver.

Each class starts a browser with a profile of its own and the network cut, and has

- `open(url)`: loads the page, and forgets what the last one did;
- `run(script, *values)`: the JSON value that a JavaScript function returns or promises;
- `perform(*sources)`: real input, as WebDriver's lists of actions (`press`, `drag`);
- `problems()`: what a clean page does not do, one line each, as far as the engine tells;
- `close()`.

WebKit's driver tells nothing of the console. RECORDER, put in front of a page's other scripts,
writes down what a script can see in any engine.
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import websocket
from server import Server

LIMIT = 60  # s, after which an engine that does not answer fails the test
NEEDLESS = ("data:", "blob:", "about:")
# Firefox lays out what it has parsed, be it half a formula; test_pages.py counts the parts of all.
HALF_A_FORMULA = "Invalid markup: Incorrect number of children for"
RECORDER = """<script>
window.noted = [];
for (const kind of ["warn", "error"]) {
  const own = console[kind];
  console[kind] = (...words) => {
    noted.push(`console ${kind}: ${words.join(" ")}`);
    own.apply(console, words);
  };
}
addEventListener("error", ({ target, message }) => noted.push(
  target === window ? `throws ${message}` : `misses ${target.src ?? target.href}`), true);
addEventListener("unhandledrejection", ({ reason }) => noted.push(`rejects: ${reason}`));
</script>"""
KEYS = {"Enter": "\ue007", "Space": " ", "ArrowLeft": "\ue012", "ArrowUp": "\ue013",
        "ArrowRight": "\ue014", "ArrowDown": "\ue015", "Escape": "\ue00c", "x": "x"}  # fmt: skip


def capabilities(proxy: str) -> dict:
    """Whatever is not on the loopback address goes to the proxy, `host:port`."""
    manual = {"proxyType": "manual", "httpProxy": proxy, "sslProxy": proxy}
    return {"proxy": manual | {"noProxy": ["127.0.0.1"]}}


def press(key: str) -> dict:
    """One key, down and up."""
    strokes = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
    return {"type": "key", "id": "keyboard", "actions": strokes}


def drag(points: list) -> dict:
    """The mouse goes to the first point, and with its button held on to the others."""
    moves = [
        {"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0} for x, y in points
    ]
    down, up = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
    parameters = {"pointerType": "mouse"}
    actions = [moves[0], down, *moves[1:], up]
    return {"type": "pointer", "id": "mouse", "parameters": parameters, "actions": actions}


def expression(script: str, values: tuple) -> str:
    """JavaScript that calls the function and promises its value as JSON."""
    call = f"({script})(...{json.dumps(values)})"
    return f"Promise.resolve({call}).then((value) => JSON.stringify(value ?? null))"


class Firefox:
    """Speaks WebDriver BiDi over a websocket, without a driver between."""

    def __init__(self, path: str, folder: Path, server: Server):
        self.host, self.events, self.count = "", [], 0
        preferences = {
            # As in a person's profile, and not in a test's, pages of file:// do not share storage.
            "security.fileuri.strict_origin_policy": True,
            # A file that a page saves goes there, and no panel takes the focus.
            "browser.download.folderList": 2,
            "browser.download.dir": str(folder),
            "browser.download.alwaysOpenPanel": False,
        }
        lines = [f'user_pref("{name}", {json.dumps(v)});\n' for name, v in preferences.items()]
        (folder / "user.js").write_text("".join(lines))
        options = ["--headless", "--no-remote", "--remote-debugging-port=0"]
        with (folder / "log.txt").open("w") as log:
            self.process = subprocess.Popen(
                [path, *options, "--profile", str(folder)], stdout=log, stderr=log
            )
        try:
            self.socket = websocket.create_connection(
                self.address(folder), timeout=LIMIT, suppress_origin=True
            )
            self.start(server.host)
        except BaseException:
            self.process.kill()
            raise

    def address(self, folder: Path) -> str:
        """Firefox writes it down in its profile as soon as it listens."""
        found = wait(lambda: read_json(folder / "WebDriverBiDiServer.json"), self.process, folder)
        return f"ws://{found['ws_host']}:{found['ws_port']}/session"

    def start(self, proxy: str) -> None:
        self.call("session.new", capabilities={"alwaysMatch": capabilities(proxy)})
        first = self.call("browsingContext.getTree")["contexts"][0]["context"]
        self.tab = self.call("browsingContext.create", type="tab")["context"]
        self.call("browsingContext.close", context=first)  # only a new tab has the focus
        self.call("session.subscribe", events=["log.entryAdded", "network"], contexts=[self.tab])
        size = {"width": 1280, "height": 900}
        self.call("browsingContext.setViewport", context=self.tab, viewport=size)

    def call(self, method: str, **params) -> dict:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while (message := json.loads(self.socket.recv())).get("id") != self.count:
            self.events.append(message)
        if message["type"] == "error":
            raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
        return message["result"]

    def open(self, url: str) -> None:
        self.call("browsingContext.navigate", context=self.tab, url="about:blank", wait="complete")
        self.events.clear()
        self.host = "{0.scheme}://{0.netloc}/".format(urlsplit(url))
        self.call("browsingContext.navigate", context=self.tab, url=url, wait="complete")

    def run(self, script: str, *values):
        answer = self.call(
            "script.evaluate",
            expression=expression(script, values),
            target={"context": self.tab},
            awaitPromise=True,
            userActivation=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def perform(self, *sources: dict) -> None:
        self.call("input.performActions", context=self.tab, actions=list(sources))

    def problems(self) -> list[str]:
        found = []
        for event in self.events:
            kind, params = event.get("method"), event.get("params", {})
            if kind == "log.entryAdded" and params["level"] in ("warn", "error"):
                if HALF_A_FORMULA in params["text"]:
                    continue
                found.append(f"console {params['level']}: {params['text']}")
            elif kind == "network.beforeRequestSent":
                url = params["request"]["url"]
                if not url.startswith((*NEEDLESS, self.host)):
                    found.append(f"asks for {url}")
            elif kind == "network.fetchError":
                found.append(f"{params['request']['url']}: {params['errorText']}")
            elif kind == "network.responseCompleted" and params["response"]["status"] >= 400:
                found.append(f"{params['response']['status']} for {params['request']['url']}")
        return found

    def close(self) -> None:
        try:
            self.call("browser.close")
            self.process.wait(20)
        finally:
            self.process.kill()


class WebKit:
    """Speaks WebDriver over HTTP to the driver of WebKitGTK, which draws on a virtual screen."""

    def __init__(self, path: str, folder: Path, server: Server):
        self.refused, self.processes = server.refused, []
        try:
            self.address = self.start(path, folder)
            wait(lambda: self.call("GET", "/status"), self.processes[-1], folder)
            limits = {"timeouts": {"script": 1000 * LIMIT, "pageLoad": 1000 * LIMIT}}
            wished = {"alwaysMatch": capabilities(server.host) | limits}
            self.session = self.call("POST", "/session", capabilities=wished)["sessionId"]
            self.command("window/rect", x=0, y=0, width=1280, height=900)
        except BaseException:
            self.stop()
            raise

    def start(self, path: str, folder: Path) -> str:
        """The driver's address."""
        port = free_port()
        # As root WebKit's sandbox does not start. A machine without a GPU draws in software, and
        # putting layers together, which is a GPU's work, then takes half of the time.
        more = dict.fromkeys(
            (
                "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS",
                "LIBGL_ALWAYS_SOFTWARE",
                "WEBKIT_DISABLE_COMPOSITING_MODE",
            ),
            "1",
        )
        with (folder / "log.txt").open("w") as log:
            display = self.screen(log)
            self.processes.append(
                subprocess.Popen(
                    [path, f"--port={port}"],
                    env=os.environ | more | {"DISPLAY": display},
                    stdout=log,
                    stderr=log,
                )
            )
        return f"http://127.0.0.1:{port}"

    def screen(self, log) -> str:
        """Xvfb chooses a number that is free and says it."""
        options = ["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
        screen = subprocess.Popen(["Xvfb", *options], stdout=subprocess.PIPE, stderr=log, text=True)
        self.processes.append(screen)
        return f":{screen.stdout.readline().strip()}"

    def call(self, method: str, path: str, **body):
        data = json.dumps(body).encode() if method == "POST" else None
        request = urllib.request.Request(self.address + path, data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT + 10) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {json.load(error)['value']['message']}") from None

    def command(self, name: str, **body):
        return self.call("POST", f"/session/{self.session}/{name}", **body)

    def open(self, url: str) -> None:
        self.command("url", url="about:blank")
        self.refused.clear()
        self.command("url", url=url)

    def run(self, script: str, *values):
        text = self.command("execute/sync", script=f"return {expression(script, values)}", args=[])
        return json.loads(text)

    def perform(self, *sources: dict) -> None:
        self.command("actions", actions=list(sources))

    def problems(self) -> list[str]:
        return list(self.refused)

    def close(self) -> None:
        try:
            self.call("DELETE", f"/session/{self.session}")
        finally:
            self.stop()

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def read_json(path: Path):
    return json.loads(path.read_text())


def wait(attempt, process: subprocess.Popen, folder: Path):
    """What `attempt()` returns as soon as it no longer fails.

    Raises:
        RuntimeError: the process ended or does not answer; the message holds what it wrote.
    """
    start = time.monotonic()
    while process.poll() is None and time.monotonic() < start + LIMIT:
        try:
            return attempt()
        except (OSError, ValueError):  # not there yet, or half of it
            time.sleep(0.05)
    raise RuntimeError(f"{process.args[0]} does not answer:\n{(folder / 'log.txt').read_text()}")
