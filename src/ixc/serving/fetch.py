"""Fetch an image from a URL that a client wrote: only from named hosts, only at public addresses, never redirected.

    url --read_url--> Target --resolve once--> addresses, all of them public --connect to the checked one--> bytes

The name is resolved once and the connection goes to the address that was checked, so a DNS answer that changes in
between (DNS rebinding) has no effect. Proxies of the environment are not used.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from threading import Timer
from time import monotonic
from urllib.parse import urlsplit

from ixc.serving.errors import ApiError, quote

PORTS = {"http": 80, "https": 443}
"""Scheme -> its default port; a host on another port must be allowed with that port."""

LONGEST_URL = 2048
"""Most characters of a URL."""

CHUNK = 1 << 16
"""Most bytes of one read."""

_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""A host name in lower case. Its last label starts with a letter, so no IP address in any spelling matches."""

_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
"""Printable ASCII, no space."""

_EMBEDDING_IPV4 = (
    ipaddress.ip_network("64:ff9b::/96"),
    ipaddress.ip_network("64:ff9b:1::/48"),
    ipaddress.ip_network("2002::/16"),
    ipaddress.ip_network("2001::/32"),
    ipaddress.ip_network("::/96"),
)
"""IPv6 networks whose addresses contain an IPv4 address: NAT64, 6to4, Teredo, IPv4-compatible."""

Resolve = Callable[[str, int], Sequence[str]]
"""(host, port) -> addresses as text."""

Connect = Callable[[str, int, float], socket.socket]
"""(address, port, seconds) -> a connected socket."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The parts of a URL, checked in form only."""

    scheme: str
    """http or https."""
    host: str
    """Host name in lower case."""
    port: int
    """1 to 65535."""
    path: str
    """Path with the query; it starts with a slash."""


def read_url(url: str) -> Target:
    """Split a URL into its parts.

    Raises:
        ApiError: another scheme, a user's name, a backslash, an address instead of a name, a port out of range.
    """
    if len(url) > LONGEST_URL:
        raise ApiError(f"an image's URL has {len(url):,} characters, at most {LONGEST_URL:,} are read")
    if not _URL.fullmatch(url) or "\\" in url:
        raise _bad(url, "use http:// or https:// and printable ASCII without backslashes")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _bad(url, "its host or port cannot be read") from None
    if "@" in parts.netloc:
        raise _bad(url, "names and passwords before the host are not allowed")
    if not _HOST.fullmatch(host):
        raise _bad(url, "write the host as a name, not as an address")
    if port == 0:
        raise _bad(url, "port 0 does not exist")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=parts.scheme, host=host, port=port or PORTS[parts.scheme], path=path)


def is_public(address: str) -> bool:
    """Return whether an address is global: not private, local, shared, reserved or multicast."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in _EMBEDDING_IPV4):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host from the system's resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def connect(address: str, port: int, seconds: float) -> socket.socket:
    """Connect to an IP address; no name is resolved."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect((address, port))
    except OSError:
        connection.close()
        raise
    return connection


@dataclass(frozen=True, kw_only=True)
class Fetcher:
    """Fetches from the allowed hosts and from no other."""

    hosts: tuple[str, ...] = ()
    """Allowed hosts: "*.example.org" every host below it, "*" every public one, "host:8443" another port; () = off."""
    seconds: float = 10.0
    """Longest time of a fetch, from resolving the name to the last byte."""
    max_bytes: int = 32 << 20
    """Most bytes of an image."""
    resolve: Resolve = resolve
    """Resolves a name; tests replace it."""
    connect: Connect = connect
    """Connects to an address; tests replace it."""

    def fetch(self, url: str) -> bytes:
        """Return the bytes at a URL.

        Raises:
            ApiError: not allowed, not public, redirected, not found, too large, too slow.
        """
        if not self.hosts:
            raise ApiError(
                "fetching images is off; send the image as a data: URL, or start the server with --fetch-from HOST",
                status=403,
                code="fetching_off",
            )
        target = read_url(url)
        self._check_host(target)
        deadline = monotonic() + self.seconds
        try:
            return self._read(target, self._address(target), deadline)
        except TimeoutError:
            raise ApiError(
                f"{target.host} took longer than {self.seconds:g} s; send the image as a data: URL", code="fetch_failed"
            ) from None
        except (OSError, HTTPException, ValueError):  # no detail: it would describe this network to the client
            raise ApiError(
                f"{target.host} could not be read; check the address or send the image as a data: URL",
                code="fetch_failed",
            ) from None

    def _check_host(self, target: Target) -> None:
        for allowed in self.hosts:
            name, _, port = allowed.lower().partition(":")
            if target.port != (int(port) if port else PORTS[target.scheme]):
                continue
            if name in ("*", target.host) or (name.startswith("*.") and target.host.endswith(name[1:])):
                return
        raise ApiError(
            f"images are not fetched from {quote(target.host)}:{target.port}; send the image as a data: URL",
            status=403,
            code="host_not_allowed",
        )

    def _address(self, target: Target) -> str:
        """Return the first address. All must be public: a host could list a private one among them."""
        addresses = self.resolve(target.host, target.port)
        if not addresses or not all(map(is_public, addresses)):
            raise ApiError(
                f"{target.host} has no public address, or one that is not; send the image as a data: URL",
                status=403,
                code="address_not_public",
            )
        return addresses[0]

    def _read(self, target: Target, address: str, deadline: float) -> bytes:
        connection = self.connect(address, target.port, _left(deadline))
        # A socket's timeout starts again with every byte, with which a slow server could hold the thread for hours.
        timer = Timer(_left(deadline), _shut_down, [connection])
        timer.start()
        try:
            connection.settimeout(_left(deadline))
            if target.scheme == "https":
                connection = ssl.create_default_context().wrap_socket(connection, server_hostname=target.host)
            http = HTTPConnection(target.host, target.port)
            http.sock = connection
            http.putrequest("GET", target.path, skip_accept_encoding=True)
            http.putheader("Accept", "image/*")
            http.putheader("Accept-Encoding", "identity")
            http.putheader("Connection", "close")
            http.endheaders()
            with http.getresponse() as response:
                return self._body(target, response, deadline)
        except OSError:
            _left(deadline)  # raises TimeoutError if the timer has closed the connection
            raise
        finally:
            timer.cancel()
            connection.close()

    def _body(self, target: Target, response: HTTPResponse, deadline: float) -> bytes:
        if response.status != 200:
            more = ", redirects are not followed" if 300 <= response.status < 400 else ""
            raise ApiError(f"{target.host} answered {response.status}{more}; check the address", code="fetch_failed")
        if response.getheader("Content-Encoding", "identity").lower() != "identity":
            raise ApiError(f"{target.host} sent a compressed answer; send the image itself", code="fetch_failed")
        length = response.getheader("Content-Length", "0")
        if length.isdecimal() and int(length[:20]) > self.max_bytes:
            raise self._too_large(target)
        found = bytearray()
        while chunk := response.read1(CHUNK):
            found += chunk
            if len(found) > self.max_bytes:
                raise self._too_large(target)
        _left(deadline)
        return bytes(found)

    def _too_large(self, target: Target) -> ApiError:
        return ApiError(
            f"the image at {target.host} has more than {self.max_bytes:,} bytes; reduce it first",
            status=413,
            code="image_too_large",
        )


def _shut_down(connection: socket.socket) -> None:
    """End a connection that another thread is reading from; on TLS too, whose own shutdown would wait for the peer."""
    with suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _bad(url: str, remedy: str) -> ApiError:
    return ApiError(f"{quote(url)} is no URL of an image; {remedy}", code="bad_url")
