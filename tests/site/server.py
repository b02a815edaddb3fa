"""A folder on the loopback address, by a server that notes what it has to refuse.

As an engine's proxy it also notes what a page asks of other hosts.
"""

import functools
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """`host` is "127.0.0.1:port", `refused` what was asked in vain, one line each."""

    host: str
    refused: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}/"


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection serves many files, as everywhere today

    def __init__(self, *args, refused: list[str], **options):
        self.refused = refused
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        if self.path.startswith("/"):
            super().do_GET()
        else:
            self.send_error(HTTPStatus.BAD_GATEWAY)

    def send_error(self, code, *args, **options) -> None:
        # What a proxy is sent over TLS cannot be read.
        self.refused.append(f"{int(code)} for {getattr(self, 'path', 'an https address')}")
        super().send_error(code, *args, **options)

    def log_message(self, *args) -> None:
        pass


@contextmanager
def serve(folder: Path):
    """Yields the Server while it runs."""
    refused = []
    handler = functools.partial(Handler, directory=folder, refused=refused)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Server(f"127.0.0.1:{server.server_port}", refused)
        server.shutdown()
