"""Pictures and sound at addresses elsewhere, fetched by the server itself so that no engine ever does.

A client names the address, so the server must not become its arm into the network it stands in. A name is looked up
once; every address it has must be a public one, and the connection goes to one of just these, with the certificate
checked for the name: there is no second look-up that could say something else. Redirects are followed by hand and
checked the same way. What comes is bounded in bytes and in time, and is taken for what it is, not for what it is
said to be.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx2
from fastapi import Request

from cohabit.api.errors import BadRequest
from cohabit.config.model import RemoteMediaConfig

MOST_REDIRECTS = 3
MOST_ADDRESSES = 8  # in one request
MOST_AT_ONCE = 8  # fetches of all requests together
_CONNECT_SECONDS = 5.0  # for one address, of which a name may have several
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNICAST = IPv6Network("2000::/3")  # all that has been given out
_NAT64 = IPv6Network("64:ff9b::/96")  # ends in the IPv4 address that is meant

Resolve = Callable[[str], Awaitable[Sequence[str]]]

_lookups = ThreadPoolExecutor(MOST_AT_ONCE, "lookups")  # of their own: a slow name server holds up nothing else


def is_address(text: str) -> bool:
    """Whether it is the address of something rather than the thing itself."""
    return _ADDRESS.match(text) is not None


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
    loop = asyncio.get_running_loop()
    try:
        found = await loop.run_in_executor(_lookups, lambda: socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class RemoteMedia:
    """Fetches what clients point to, if the config says so."""

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
        self._at_once = asyncio.Semaphore(MOST_AT_ONCE)

    async def fetched(self, url: str, param: str) -> bytes:
        """What is there; ``param`` is the field that points to it. Raises BadRequest."""
        if not self._config.enabled:
            raise _refused(
                param,
                "is an address, and this server fetches nothing from elsewhere; send the data itself as a data URL, "
                "or let the owner set server.remote_media.enabled in the config",
            )
        try:
            async with asyncio.timeout(self._config.timeout), self._at_once:
                return await self._fetch(url, param)
        except TimeoutError:
            raise _refused(param, f"could not be fetched within {self._config.timeout:g} seconds") from None

    async def _fetch(self, url: str, param: str) -> bytes:
        for _ in range(1 + MOST_REDIRECTS):
            target = self._checked(url, param)
            addresses = await self._resolve(target.raw_host.decode("ascii"))
            if not addresses or not all(map(is_public, addresses)):
                raise _refused(param, "is not on a host whose addresses are all public")
            response = await self._asked(target, addresses, param)
            try:
                if response.status_code not in _REDIRECTS:
                    return await self._read(response, param)
                url = str(target.join(response.headers.get("location", "")))
            except httpx2.InvalidURL:
                raise _refused(param, "leads to an address that cannot be read") from None
            finally:
                await response.aclose()
        raise _refused(param, f"leads on and on: more than {MOST_REDIRECTS} redirects")

    def _checked(self, url: str, param: str) -> httpx2.URL:
        try:
            target = httpx2.URL(url)
        except httpx2.InvalidURL:
            raise _refused(param, "is not an address that can be read") from None
        name = target.raw_host.decode("ascii")
        if target.scheme != "https" or not name:
            raise _refused(param, "must be an https address or a data URL")
        if target.userinfo:
            raise _refused(param, "holds credentials, which are not sent on; leave them out")
        if target.port not in {None, 443}:
            raise _refused(param, "names a port; only that of https, 443, is fetched from")
        allowed = self._config.allow_hosts
        if allowed and not any(name == host or name.endswith(f".{host}") for host in allowed):
            raise _refused(param, "is not on a host that server.remote_media.allow_hosts in the config has")
        return target

    async def _asked(self, target: httpx2.URL, addresses: Sequence[str], param: str) -> httpx2.Response:
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
        raise _refused(param, "could not be fetched: no connection, or no certificate for that name")

    def _way(self) -> httpx2.AsyncBaseTransport:
        """Made when it is first needed, since reading certificates takes a while.

        Used without a client it follows nothing and knows no proxies, cookies or passwords. No connection is kept:
        the next one to the same IP address may be for another name.
        """
        if self._transport is None:
            self._transport = httpx2.AsyncHTTPTransport(
                trust_env=False, limits=httpx2.Limits(max_connections=MOST_AT_ONCE, max_keepalive_connections=0)
            )
        return self._transport

    async def _read(self, response: httpx2.Response, param: str) -> bytes:
        if response.status_code != 200:
            raise _refused(param, f"could not be fetched: its server answered {response.status_code}")
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
            raise _refused(param, "could not be fetched: the connection broke off") from None
        return bytes(data)


class Fetcher:
    """For one request, which may hold only so many addresses."""

    def __init__(self, remote: RemoteMedia) -> None:
        """Has fetched nothing."""
        self._remote = remote
        self._count = 0

    async def fetch(self, url: str, param: str) -> bytes:
        """What is there; ``param`` is the field that points to it. Raises BadRequest."""
        self._count += 1
        if self._count > MOST_ADDRESSES:
            raise _refused(param, f"is one address too many: at most {MOST_ADDRESSES} are fetched for one request")
        return await self._remote.fetched(url, param)

    async def fetch_all(self, places: Mapping[str, str]) -> dict[str, bytes]:
        """Of URLs by the place where they stand, those that are addresses, fetched. Raises BadRequest."""
        wanted = {place: url for place, url in places.items() if is_address(url)}
        tasks = [asyncio.ensure_future(self.fetch(url, place)) for place, url in wanted.items()]
        try:
            return dict(zip(wanted, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()


def fetcher_of(request: Request) -> Fetcher:
    """For this request."""
    return Fetcher(request.app.state.remote)


def _refused(param: str, why: str) -> BadRequest:
    return BadRequest(f"{param} {why}", param=param, code="media_not_fetched")


def _too_large(param: str, most: int) -> BadRequest:
    return _refused(param, f"is larger than {most >> 10} KiB, the most that is fetched")
