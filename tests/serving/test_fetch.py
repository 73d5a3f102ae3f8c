"""Fetching pictures: only from named hosts, only at public addresses, pinned, never redirected, bounded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep

import pytest
from talk import picture

from ixc.serving.errors import ApiError
from ixc.serving.fetch import Fetcher, is_public, read_url

PUBLIC = "93.184.215.14"
IMAGE = picture()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(IMAGE) + IMAGE


@contextmanager
def host(answer: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[bytes]]]:
    """A host on this machine that takes one connection; (port, requests seen)."""
    seen: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(5)

    def work() -> None:
        try:
            line, _ = listening.accept()
        except OSError:
            return
        with line:
            line.settimeout(5)
            try:
                seen.append(line.recv(65536))
                answer(line)
            except OSError:
                pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], seen
    finally:
        listening.close()
        thread.join(5)


def fetcher(
    port: int, *, addresses: Sequence[str] = (PUBLIC,), hosts: tuple[str, ...] = ("images.example.org",), **more
):
    """A fetcher whose public address is the host on this machine; `asked` and `reached` say what it did."""
    asked: list[str] = []
    reached: list[str] = []

    def resolve(name: str, _: int) -> Sequence[str]:
        asked.append(name)
        return addresses if len(asked) == 1 else ("127.0.0.1",)  # the second answer of the DNS is another one

    def connect(address: str, _: int, seconds: float) -> socket.socket:
        reached.append(address)
        return socket.create_connection(("127.0.0.1", port), timeout=seconds)

    return Fetcher(hosts=hosts, resolve=resolve, connect=connect, **more), asked, reached


def sends(data: bytes) -> Callable[[socket.socket], None]:
    return lambda line: line.sendall(data)


def refusal(found: Fetcher, url: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        found.fetch(url)
    return caught.value


def test_fetcher_connects_to_the_address_that_was_checked() -> None:
    with host(sends(OK)) as (port, seen):
        found, asked, reached = fetcher(port)
        assert found.fetch("http://images.example.org/a/b.png?size=1") == IMAGE
    assert (asked, reached) == (["images.example.org"], [PUBLIC])  # asked once: a changed answer changes nothing
    assert seen[0].startswith(b"GET /a/b.png?size=1 HTTP/1.1\r\nHost: images.example.org\r\n")


@pytest.mark.parametrize(
    "url",
    [
        "http://2130706433/", "http://0x7f000001/", "http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://127.1/",
        "http://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/",
        "http://[fe80::1%25eth0]/", "http://images.example.org@127.0.0.1/", "http://user:word@images.example.org/",
        "http://127.0.0.1\\@images.example.org/", "http:\\\\images.example.org/", "http://images.example.org\\.evil.org/",
        "http://images.example.org/\r\nX: y", "http://images.example.org /", "http://images.example.org:0/",
        "http://images.example.org:99999/", "http://images.example.org:x/", "http:///a.png", "http://",
        "http://images.example.org./", "http://images%2eexample.org/", "http://ｉmages.example.org/", "http://①②⑦.0.0.1/",
        "http://-a.example.org/", "http://a..org/", "http://images.example.org/" + "a" * 3000,
    ],
)  # fmt: skip
def test_fetcher_refuses_malformed_addresses(url: str) -> None:
    found, asked, _ = fetcher(1, hosts=("*",))
    assert refusal(found, url).status == 400
    assert not asked


@pytest.mark.parametrize(
    "url", ["http://example.org/", "http://a.images.example.org/", "http://images.example.org.evil.net/",
            "http://images.example.org:8080/", "https://images.example.org:80/", "http://localhost/"],
)  # fmt: skip
def test_fetcher_refuses_hosts_that_are_not_named(url: str) -> None:
    found, asked, _ = fetcher(1)
    assert refusal(found, url).code == "host_not_allowed"
    assert not asked


def test_fetcher_hosts_below_a_name_and_other_ports() -> None:
    for url, allowed in (
        ("http://a.example.org/", "*.example.org"),
        ("http://x.example.org:8080/", "x.example.org:8080"),
    ):
        with host(sends(OK)) as (port, _):
            assert fetcher(port, hosts=(allowed,))[0].fetch(url) == IMAGE
    assert refusal(fetcher(1, hosts=("*.example.org",))[0], "http://evilexample.org/").status == 403


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
     "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::127.0.0.1", "198.18.0.1"],
)  # fmt: skip
def test_fetcher_refuses_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
    for answers in ([address], [PUBLIC, address]):
        found, _, reached = fetcher(1, addresses=answers, hosts=("*",))
        assert refusal(found, "http://images.example.org/").code == "address_not_public"
        assert not reached


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"])
def test_is_public_of_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n",
            "redirects are not followed",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nxx", "compressed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "more than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5000, "more than 1,000 bytes"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: " + b"x" * 200_000, "could not be read"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "could not be read"),
        (b"", "could not be read"),
    ],
)
def test_fetcher_refuses_responses_that_are_no_picture(answer: bytes, words: str) -> None:
    with host(sends(answer)) as (port, _):
        error = refusal(fetcher(port, max_bytes=1000)[0], "http://images.example.org/")
    assert words in str(error)
    assert "127.0.0.1" not in str(error)


def drip(start: bytes) -> Callable[[socket.socket], None]:
    def answer(line: socket.socket) -> None:
        line.sendall(start)
        end = monotonic() + 4
        while monotonic() < end:
            line.sendall(b"x")
            sleep(0.05)

    return answer


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: "])
def test_fetcher_ends_a_slow_response(start: bytes) -> None:
    begin = monotonic()
    with host(drip(start)) as (port, _):
        assert "took longer than 0.3 s" in str(refusal(fetcher(port, seconds=0.3)[0], "http://images.example.org/"))
        assert monotonic() - begin < 3


def test_fetcher_is_off_by_default() -> None:
    assert refusal(Fetcher(), "http://images.example.org/").code == "fetching_off"


def test_read_url_port_of_a_scheme() -> None:
    assert (read_url("https://A.example.org").port, read_url("http://a.example.org/x").port) == (443, 80)
    assert read_url("HTTPS://A.Example.org").host == "a.example.org"
