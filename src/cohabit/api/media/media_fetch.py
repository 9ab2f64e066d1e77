"""Pictures and sound at addresses elsewhere, fetched by the server itself so that no engine ever does.

A client names the address, so the server must not give it access to the network that the server is in. A name is
looked up once. All its addresses must be public, and the connection goes to one of just these, with the certificate
checked for the name: there is no second look-up that could say something else. Redirects are followed by hand and
checked the same way. What comes is bounded in bytes and in time, and its declared type is not trusted.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx2

from cohabit.api.errors import BadRequest
from cohabit.api.media.media_inputs import not_fetched
from cohabit.config.model import RemoteMediaConfig
from cohabit.runtime.executors import LOOKUPS

MAX_REDIRECTS = 3
MAX_AT_ONCE = 8  # fetches of all requests together
_CONNECT_SECONDS = 5.0  # for one address, of which a name may have several
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNICAST = IPv6Network("2000::/3")  # all that has been given out
_NAT64 = IPv6Network("64:ff9b::/96")  # ends in the IPv4 address that is meant

Resolve = Callable[[str], Awaitable[Sequence[str]]]


def is_public(text: str) -> bool:
    """Whether an IP address is of the public internet; where it stands for an IPv4 address, whether that one is."""
    address: IPv4Address | IPv6Address = ip_address(text)
    if isinstance(address, IPv6Address):
        inner = IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
        inner = inner or address.ipv4_mapped or address.sixtofour
        if inner is None and (address not in _UNICAST or address.teredo is not None):
            return False
        address = inner or address
    return address.is_global and not address.is_multicast and not address.is_reserved


async def looked_up(host: str) -> list[str]:
    """The addresses of a name, as the system knows them; empty if it has none."""
    try:
        entries = await LOOKUPS.run(socket.getaddrinfo, host, 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


class RemoteMedia:
    """Fetches what clients point to."""

    def __init__(
        self,
        config: RemoteMediaConfig,
        *,
        resolve: Resolve = looked_up,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """``transport`` gets requests to an IP address, the name being in ``host`` and ``sni_hostname``."""
        self._config = config
        self._resolve = resolve
        self._transport = transport
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)

    async def fetch(self, url: str, param: str) -> bytes:
        """What is there; ``param`` is the field that points to it. Raises BadRequest."""
        try:
            async with asyncio.timeout(self._config.timeout), self._at_once:
                return await self._fetch(url, param)
        except TimeoutError:
            raise not_fetched(param, f"could not be fetched within {self._config.timeout:g} seconds") from None

    async def _fetch(self, url: str, param: str) -> bytes:
        for _ in range(1 + MAX_REDIRECTS):
            target = self._checked(url, param)
            addresses = await self._resolve(target.raw_host.decode("ascii"))
            if not addresses or not all(map(is_public, addresses)):
                raise not_fetched(param, "is not on a host whose addresses are all public")
            response = await self._request(target, addresses, param)
            try:
                if response.status_code not in _REDIRECTS:
                    return await self._read(response, param)
                url = str(target.join(response.headers.get("location", "")))
            except httpx2.InvalidURL:
                raise not_fetched(param, "redirects to an invalid URL") from None
            finally:
                await response.aclose()
        raise not_fetched(param, f"has too many redirects (at most {MAX_REDIRECTS} are followed)")

    def _checked(self, url: str, param: str) -> httpx2.URL:
        try:
            target = httpx2.URL(url)
        except httpx2.InvalidURL:
            raise not_fetched(param, "is not a valid URL") from None
        name = target.raw_host.decode("ascii")
        if target.scheme != "https" or not name:
            raise not_fetched(param, "must be an https URL or a data URL")
        if target.userinfo:
            raise not_fetched(param, "holds credentials, which are never sent on; leave them out")
        if target.port not in {None, 443}:
            raise not_fetched(param, "names a port; only port 443 is fetched from")
        allowed = self._config.allow_hosts
        if allowed and not any(name == host or name.endswith(f".{host}") for host in allowed):
            raise not_fetched(param, "is not on a host of server.remote_media.allow_hosts in the config")
        return target

    async def _request(self, target: httpx2.URL, addresses: Sequence[str], param: str) -> httpx2.Response:
        """The first of the addresses that answers."""
        name = target.raw_host.decode("ascii")
        headers = [
            (b"host", target.netloc),
            (b"user-agent", b"cohabit"),
            (b"accept", b"*/*"),
            (b"accept-encoding", b"identity"),
        ]
        limits = httpx2.Timeout(self._config.timeout, connect=_CONNECT_SECONDS).as_dict()
        for address in addresses:
            request = httpx2.Request(
                "GET",
                target.copy_with(host=address, fragment=None),
                headers=headers,
                extensions={"sni_hostname": name, "timeout": limits},
            )
            try:
                return await self._way().handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
            except httpx2.TransportError:
                break
        raise not_fetched(param, "could not be fetched: no connection, or no valid certificate for that host")

    def _way(self) -> httpx2.AsyncBaseTransport:
        """Made when it is first needed, since reading certificates takes a while.

        Used without a client it follows nothing and knows no proxies, cookies or passwords. No connection is kept:
        the next one to the same IP address may be for another name.
        """
        if self._transport is None:
            self._transport = httpx2.AsyncHTTPTransport(
                trust_env=False, limits=httpx2.Limits(max_connections=MAX_AT_ONCE, max_keepalive_connections=0)
            )
        return self._transport

    async def _read(self, response: httpx2.Response, param: str) -> bytes:
        if response.status_code != 200:
            raise not_fetched(param, f"could not be fetched: its server answered {response.status_code}")
        most = self._config.max_bytes
        declared = response.headers.get("content-length", "")
        data = bytearray()
        try:
            if declared.isdecimal() and int(declared) > most:
                raise _too_large(param, most)
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > most:
                    raise _too_large(param, most)
        except httpx2.TransportError:
            raise not_fetched(param, "could not be fetched: the connection was lost") from None
        return bytes(data)


def _too_large(param: str, most: int) -> BadRequest:
    return not_fetched(param, f"is larger than {most >> 10} KiB, the maximum that is fetched")
