"""deploy/router.conf in nginx, in front of two servers on loopback: one page goes to one of them, and one may die."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

NGINX = shutil.which("nginx")
CONF = Path(__file__).parents[2] / "deploy" / "router.conf"

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx (apt-get install nginx-light)")


class Named(BaseHTTPRequestHandler):
    """Answers with the port of its server."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = str(self.server.server_address[1]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def router(folder: Path, ports: list[int]) -> Iterator[int]:
    """Nginx with the file of deploy/, its names and port replaced by those of loopback; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = free.getsockname()[1]
    conf = CONF.read_text(encoding="utf-8").replace("listen 8000;", f"listen 127.0.0.1:{own};")
    for number, port in enumerate(ports):
        conf, found = re.subn(rf"server-{number}:8000", f"127.0.0.1:{port}", conf)
        assert found == 1
    whole = f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\nhttp {{ access_log off;\n"
    whole += "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(whole + conf + "}\n", encoding="utf-8")
    assert NGINX
    with subprocess.Popen([NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]) as process:
        try:
            for _ in range(200):
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", own)) == 0:
                        break
                time.sleep(0.02)
            yield own
        finally:
            process.terminate()


def ask(port: int, image: str | None) -> int:
    """Port of the server that answers."""
    headers = {"Content-Type": "application/json"} | ({} if image is None else {"x-ixc-image": image})
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", b"{}", headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return int(answer.read())


def test_deploy_router_keeps_an_image_on_one_server_and_passes_over_a_dead_one(tmp_path: Path) -> None:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Named) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ports = [server.server_address[1] for server in servers]
    try:
        with router(tmp_path, ports) as port:
            first = {f"page {number}": ask(port, f"page {number}") for number in range(20)}
            assert set(first.values()) == set(ports), "20 pages on one server"
            assert {image: ask(port, image) for image in first} == first
            assert {ask(port, None) for _ in range(20)} == set(ports), "requests without a page are not spread"
            servers[0].shutdown()
            servers[0].server_close()
            assert {ask(port, image) for image in first} == {ports[1]}
    finally:
        for server in servers:
            server.server_close()
