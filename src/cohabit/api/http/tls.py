"""TLS: the server's certificate, and the handshakes before there is a connection.

The certificate is read with errors that say what to do, and read again when it has been renewed. A handshake has a
time limit, and so has the number of handshakes: uvicorn would leave both to the event loop, which allows a minute for
each and counts none, so that a crowd could take every file descriptor. What is written to a connection passes two
buffers; the lower one, here known, tells whether its client reads.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from cohabit.api.http.connections import Connection
from cohabit.config.atomic_file import stamp
from cohabit.runtime.supervision import supervise

log = structlog.get_logger()

SECONDS = 10.0  # for a handshake
_CLOSING: Final = 86400.0  # seconds; of how connections end, Connection knows more than the loop


class CertificateError(Exception):
    """Files that cannot be served with; the message says why."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """In PEM; a ``password`` file holds that of the key in its first line."""

    certificate: Path
    key: Path
    password: Path | None = None


class Certificate:
    """What a server shows to its clients.

    Renewal is noticed when somebody connects: looking at three files is nothing beside a handshake, and needs no
    clock, no signal, and nobody to send it.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """Read them. Raises CertificateError.

        ``objection`` is why clients will not take it, as far as that can be told from here, or None.
        """
        self._files = files
        self._seen = _seen(files)
        self._context, self.objection = _read(files)

    def context(self) -> ssl.SSLContext:
        """For the next handshake: of the files as they are now, or as they were when they last were right."""
        seen = _seen(self._files)
        if seen != self._seen:
            self._seen = seen
            try:
                self._context, self.objection = _read(self._files)
            except CertificateError as error:  # perhaps half of it is written; then it changes again
                log.warning("certificate cannot be renewed, the old one stays", why=str(error))
            else:
                log.info("certificate renewed", objection=self.objection)
        return self._context


def _seen(files: CertificateFiles) -> list[tuple[int, int, int] | None]:
    """Differs once anything has changed."""
    return [stamp(path) for path in (files.certificate, files.key, files.password) if path is not None]


def _read(files: CertificateFiles) -> tuple[ssl.SSLContext, str | None]:
    certificate = _bytes("certificate", files.certificate)
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        raise CertificateError(f"certificate: {files.certificate} holds none in PEM")
    if b"PRIVATE KEY-----" not in _bytes("key", files.key):
        raise CertificateError(f"key: {files.key} holds no private key in PEM")
    password = (
        None if files.password is None else _bytes("password_file", files.password).split(b"\n")[0].rstrip(b"\r")
    )

    def ask() -> bytes:
        if password is None:
            raise CertificateError(f"key: {files.key} is encrypted; put its password into a password_file")
        return password

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # clients could have it compute for ever
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key, ask)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateError(f"key: {files.key} is not that of the certificate") from None
        if password is not None:
            raise CertificateError(f"key: {files.key} cannot be read; is that its password?") from None
        raise CertificateError(f"certificate and key cannot be used: {error.reason or 'damaged PEM'}") from None
    except ValueError:  # Python's own: a password of over 1024 bytes
        raise CertificateError("password_file: its first line is longer than a password may be") from None
    except OSError as error:  # taken away just now
        raise CertificateError(f"certificate and key cannot be read: {error.strerror or error}") from None
    return context, _objection(context, certificate.decode("ascii", "replace"))


def _bytes(what: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{what}: {path} cannot be read: {error.strerror or error}") from None


def _objection(context: ssl.SSLContext, certificate: str) -> str | None:
    """What a client says that trusts exactly this certificate: the standard library verifies, but does not tell."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False  # it may have many names
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=certificate)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True))
    for end in ends * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
    return None


class Handshakes:
    """Makes the protocol that a server begins with; counts those that are under way."""

    def __init__(
        self, connection: Callable[..., Connection], certificate: Certificate, *, most: int, seconds: float = SECONDS
    ) -> None:
        """``most`` at once, in ``seconds`` each; what comes after one is made by ``connection``."""
        self._connection = connection
        self._certificate = certificate
        self._most = most
        self._seconds = seconds
        self._under_way: dict[asyncio.Transport, None] = {}  # oldest first

    def __call__(self, **of_uvicorn: Any) -> asyncio.Protocol:
        """What ``uvicorn.Config(http=...)`` asks for when somebody connects."""
        return _Handshake(self, lambda: self._connection(**of_uvicorn))

    async def secured(self, protocol: "_Handshake", transport: asyncio.Transport) -> asyncio.Transport | None:
        """The transport that speaks TLS; None if there is nobody any more to speak to."""
        if len(self._under_way) >= self._most:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.abort()
        self._under_way[transport] = None
        try:
            found = await asyncio.get_running_loop().start_tls(
                transport,
                protocol,
                self._certificate.context(),
                server_side=True,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=_CLOSING,
            )
        except OSError as error:  # as ssl's are, and that the time has passed
            log.debug("no handshake", why=getattr(error, "reason", None) or type(error).__name__)
            return None
        finally:
            self._under_way.pop(transport, None)
        return None if transport.is_closing() else found


class _Handshake(asyncio.Protocol):
    """Of one client, until its connection is made."""

    def __init__(self, of: Handshakes, connection: Callable[[], Connection]) -> None:
        self._of = of
        self._connection = connection
        self._early: list[bytes] = []
        self._lost = False

    def connection_made(self, transport: Any) -> None:
        supervise("handshake of TLS", self._begin(transport), lambda _: transport.abort())

    def data_received(self, data: bytes) -> None:
        """What comes just before TLS is there to read it, or with the end of the handshake."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True

    async def _begin(self, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return
        asyncio.get_running_loop().call_soon(self._hand_on, transport)  # before the loop reads on
        secured = await self._of.secured(self, transport)
        if secured is None or self._lost:
            return
        connection = self._connection()
        connection.carrier = transport
        secured.set_protocol(connection)
        connection.connection_made(secured)
        for data in self._early:
            connection.data_received(data)

    def _hand_on(self, transport: asyncio.Transport) -> None:
        """uvloop has read already when it says that somebody is there: give that to the loop's TLS."""
        protocol: Any = transport.get_protocol()  # of both loops an asyncio.BufferedProtocol, but not by its type
        early, self._early = b"".join(self._early), []
        while early and not transport.is_closing():
            buffer = protocol.get_buffer(len(early))
            size = min(len(early), len(buffer))
            buffer[:size] = early[:size]
            protocol.buffer_updated(size)
            early = early[size:]
