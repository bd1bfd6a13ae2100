"""A real HTTP server on this machine that serves one folder and can misbehave as servers do."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behaviour:
    """What the server does, and what it was asked.

    ``break_after`` holds, for one request after the other, after how many bytes the connection is closed; ``statuses``
    what is answered instead of the file.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    announce_length: bool = True
    break_after: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


def _handler(behaviour: Behaviour) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            behaviour.requests.append((self.path, wanted))
            content = behaviour.files.get(Path(self.path.partition("?")[0]).name)
            status = behaviour.statuses.pop(0) if behaviour.statuses else 200
            if status != 200 or content is None:
                self.send_error(status if status != 200 else 404)
                return
            start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and behaviour.ranges else 0  # type: ignore[index]
            if start >= len(content) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if behaviour.announce_length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if behaviour.break_after:
                body = body[: behaviour.break_after.pop(0)]
            self.wfile.write(body)
            self.wfile.flush()
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler


@contextmanager
def serving(**files: bytes) -> Iterator[Behaviour]:
    """Serve files by name, whatever folder they are asked for in; ``_tar`` at the end of a name stands for ``.tar``."""
    behaviour = Behaviour({name.replace("_tar", ".tar").replace("_", "-"): content for name, content in files.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(behaviour))
    behaviour.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield behaviour
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
