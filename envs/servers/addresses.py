"""Which network addresses a server's name may lead to.

The user names a server's host and is trusted with that: `localhost`, an address, or a name of the
own network may lead wherever they lead. A public name belongs to somebody else, who may point it
at `127.0.0.1` or at a cloud's metadata service tomorrow (DNS rebinding), so what it resolves to
is checked, and the address that was checked is the one that is connected to.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Sequence

import httpx2

from envs.errors import ForbiddenAddressError

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a host: `(host, port) -> addresses`, the preferred one first."""

OWN_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")
"""Names that no public registry hands out (RFC 6761, 6762, 8375; ICANN reserved `.internal`)."""

_SERVICES = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service
        "168.63.129.16/32",  # Azure's platform service has a public address
        "64:ff9b::/96",  # the rest embed IPv4 addresses, private ones too
        "2002::/16",
        "::/96",
    )
)


async def resolve_name(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a host.

    Raises:
        OSError: If it has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public_name(host: str) -> bool:
    """Return whether a host is a name in the public DNS, so that strangers decide its address."""
    name = host.rstrip(".").lower()
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name and not name.endswith(OWN_SUFFIXES)
    return False


def is_loopback(host: str) -> bool:
    """Return whether a host, as written, is this machine."""
    name = host.rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def is_public_address(address: str) -> bool:
    """Return whether an address is one of the open internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast and not any(ip in block for block in _SERVICES)


def check_addresses(host: str, addresses: Sequence[str]) -> None:
    """Check that all addresses of a public name are public.

    Raises:
        ForbiddenAddressError: If one is not; it may be the one that is connected to.
    """
    for address in addresses:
        if not is_public_address(address):
            raise ForbiddenAddressError(
                f"the public name {host} leads to {address}, an address of this machine or its "
                "network; if the server is your own, say so in the config: "
                '"mcpGym": {"ownNetwork": true}'
            )


class CheckedNetwork(httpx2.AsyncBaseTransport):
    """The network as one session may use it.

    A public name is resolved once per session, and all requests go to the addresses that were
    checked then; the name stays in the `Host` header and in TLS. The environment's proxies are used
    except for this machine. Behind a proxy only the proxy resolves names, so nothing is checked.

    Args:
        url: The server's endpoint; all requests of the session go to its host.
        own_network: The host's name may lead to an address that is not public.
        resolve: Finds the addresses of a public name.
    """

    def __init__(self, url: httpx2.URL, own_network: bool, resolve: Resolver) -> None:
        proxy = _proxy(url)
        self._checks = is_public_name(url.host) and not own_network and not proxy
        self._resolve = resolve
        self._addresses: Sequence[str] = ()
        self._sockets = httpx2.AsyncHTTPTransport(verify=_tls(), proxy=proxy)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._sockets.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request.

        Raises:
            ForbiddenAddressError: If the host is a public name and leads to no public address.
            httpx2.TransportError: If the server cannot be reached.
        """
        if not self._checks:
            return await self._sockets.handle_async_request(request)
        if not self._addresses:
            self._addresses = await self._found(request.url)
        *earlier, last = self._addresses
        for address in earlier:
            try:
                return await self._sockets.handle_async_request(_pinned(request, address))
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._sockets.handle_async_request(_pinned(request, last))

    async def _found(self, url: httpx2.URL) -> Sequence[str]:
        try:
            found = await self._resolve(url.host, url.port or 443)
        except OSError as error:
            raise httpx2.ConnectError(error.strerror or str(error)) from error
        check_addresses(url.host, found)
        return found


def _pinned(request: httpx2.Request, address: str) -> httpx2.Request:
    """Return a request that goes to an address but still names its host (also in TLS)."""
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": request.url.host},
    )


@functools.cache
def _tls() -> ssl.SSLContext:
    # Reading the certificates takes 30 ms, far longer than all the rest of connecting.
    return httpx2.create_ssl_context()


def _proxy(url: httpx2.URL) -> str | None:
    """Return the environment's proxy for a URL; never one for this machine itself."""
    if is_loopback(url.host) or urllib.request.proxy_bypass(url.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get(url.scheme) or proxies.get("all")
