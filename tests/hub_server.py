"""A real Hub on this machine, for the real huggingface_hub client: a server in a thread that misbehaves when told to.

    with hub_server() as hub:
        client_of(hub, tmp_path, monkeypatch)
        hub.add("alice/model", {"config.json": b"{}"})
        hub.order(Fault("GET", "/resolve/", status=429, headers={"Retry-After": "3"}))

huggingface_hub reads HF_ENDPOINT once, when it is imported. :func:`client_of` therefore sets the constants that it made
of the variable, in this process; a new process gets :func:`environment_of`. Cache and token are under the given folder,
never the user's own.
"""

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from hub_faults import Fault
from hub_memory import Answer, Hub, Refused, Request
from hub_protocol import answer
from huggingface_hub import constants, file_download, utils


@dataclass
class HubServer(Hub):
    """The Hub, faults ordered from it, requests it was sent (``METHOD path``), seconds its client waited."""

    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def order(self, *faults: Fault) -> None:
        self.faults += faults

    def strike(self, method: str, path: str) -> Fault | None:
        """Note a request and return the fault that hits it, which is then used up by one."""
        with self.lock:
            self.requests.append(f"{method} {path}")
            fault = next((fault for fault in self.faults if fault.strikes(method, path)), None)
            if fault is not None:
                fault.times -= 1
            return fault

    def count(self, start: str) -> int:
        """Return how many requests began with ``start``, such as ``GET /cdn/``."""
        return sum(request.startswith(start) for request in self.requests)


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds without a byte

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks: list[bytes] = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _cut(self) -> None:
            """Close without an answer, and forget what was not read: the other side sees a connection reset."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True

        def _user(self) -> str | None:
            sent = self.headers.get("Authorization")
            if sent is None:
                return None
            user = hub.tokens.get(sent.removeprefix("Bearer "))
            if user is None:
                raise Refused(401, "Invalid credentials in Authorization header")
            return user

        def _work(self, path: str, query: str, body: bytes) -> Answer:
            try:
                return answer(hub, self.command, path, Request(self._user(), body, parse_qs(query)))
            except Refused as refused:
                return refused.answer

        def _send(self, found: Answer, fault: Fault | None) -> None:
            body, status, headers = found.body, found.status, dict(found.headers)
            start = self.headers.get("Range", "").removeprefix("bytes=").removesuffix("-")
            if status == 200 and start:
                whole, body, status = len(body), body[int(start) :], 206
                headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
                if int(start) >= whole:
                    body, status, headers["Content-Range"] = b"", 416, f"bytes */{whole}"
            if fault is not None and fault.content is not None:
                body = fault.content
            self.send_response(status)
            for name, value in (
                {"Content-Length": str(len(body))} | headers | dict(fault.headers if fault else {})
            ).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body if fault is None else body[: fault.cut_response_after])

        def _serve(self) -> None:
            url = urlsplit(self.path)
            fault = hub.strike(self.command, url.path)
            if fault is not None and fault.cut_request_after is not None:
                self.rfile.read(min(fault.cut_request_after, int(self.headers.get("Content-Length", sys.maxsize))))
                self._cut()
                return
            body = self._body()
            if fault is not None and fault.status is not None:
                refused = Refused(fault.status, "ordered by the test").answer
                self._send(Answer(refused.body, refused.status, dict(refused.headers) | dict(fault.headers)), fault)
                return
            found = self._work(url.path, url.query, body)
            if fault is not None and fault.lose_answer:
                self._cut()
                return
            self._send(found, fault)

        do_GET = do_HEAD = do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """Serve an empty Hub whose only user is alice, with the token ``hf_alice``."""
    hub = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client_of(hub: HubServer, folder: Path, patch: pytest.MonkeyPatch, *, token: str | None = "hf_alice") -> None:
    """Point the huggingface_hub of this process at ``hub``, with cache and token under ``folder``.

    Nobody waits any more: ``time.sleep`` writes the seconds into ``hub.naps``, and goes on.
    """
    patch.setattr(constants, "ENDPOINT", hub.url)
    for module in (constants, file_download):  # in 0.36 the second has a copy
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    patch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(folder / "token"))
    patch.setattr(constants, "HF_STORED_TOKENS_PATH", str(folder / "stored_tokens"))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    getattr(utils, "reset_sessions", lambda: None)()  # until 1.0 requests' cached connection keeps the offline mode
    patch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        patch.delenv(name, raising=False)
    if token is not None:
        patch.setenv("HF_TOKEN", token)
    patch.setattr(time, "sleep", hub.naps.append)


def environment_of(hub: HubServer, folder: Path, *, token: str | None = "hf_alice") -> dict[str, str]:
    """Return the environment in which a new process does what :func:`client_of` does in this one, and waits."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1,localhost"}
    return kept | own | ({"HF_TOKEN": token} if token else {})
