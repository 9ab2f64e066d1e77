"""Everything that can be found out, fetched or refused before a server listens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cohabit.config import ConfigError
from cohabit.server.listener import Address, StartError, address_of

if TYPE_CHECKING:
    from cohabit.api.http.tls import Certificate
    from cohabit.api.middleware.auth import AuthConfig
    from cohabit.config.model import Config, ServerConfig
    from cohabit.devices import DeviceReader
    from cohabit.runtime.plan import Plan
    from cohabit.runtime.profile_store import ProfileStore

Tell = Callable[[str], None]
Fetch = Callable[["Config"], Mapping[str, Exception]]


class ModelNeverFits(Exception):
    """The budget is too small for a model. The text names it, what it needs and the budget."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a server is made of. Without a certificate it is http, without ``auth`` no key is asked for."""

    config: "Config"
    plan: "Plan"
    device: "DeviceReader"
    footprints: "ProfileStore"
    address: Address
    certificate: "Certificate | None"
    auth: "AuthConfig | None"


def nothing_to_say(_line: str) -> None:
    """For programs that do not want to hear warnings."""


def prepare(
    config: "Config",
    *,
    fetch: Fetch | None = None,
    planned: "Callable[[Plan], None] | None" = None,
    tell: Tell = nothing_to_say,
) -> Prepared:
    """Check a config, fetch its weights and plan its memory. Blocks.

    ``fetch`` gets weights that are not here and returns, by model, why some cannot be had; those are tried again by
    the first request. ``planned`` gets the plan even if the server cannot start with it. ``tell`` gets one line for
    each thing that the operator should know.

    Raises ConfigError, SourceError, DeviceError, BrokenKeys, StartError, ModelNeverFits.
    """
    from cohabit.config.paths import footprints_file, weights_dir
    from cohabit.devices import device_for, host_available
    from cohabit.runtime.plan import make_plan
    from cohabit.runtime.profile_store import ProfileStore
    from cohabit.server.assemble import missing_engines
    from cohabit.server.batch_store import database_url
    from cohabit.server.descriptors import with_descriptors
    from cohabit.server.weights import fetch_missing

    database_url(config.batches)  # wrong ones are refused now, before anything is fetched; so are the next three
    address = address_of(config.server.host, config.server.port)
    auth = auth_for(config.server, address[1][0], tell)
    certificate = certificate_of(config, tell)
    missing = missing_engines(config)
    if not missing:
        # Before the plan, since the size of what is not here cannot be estimated.
        for user, why in (fetch or fetch_missing)(config).items():
            tell(f"{user}: {why}")
    device = device_for(config.device.kind)
    footprints = ProfileStore(footprints_file())
    plan = make_plan(
        config,
        total=device.total_bytes(),
        host=host_available(),
        footprints=footprints,
        weights=weights_dir(),
    )
    if planned is not None:
        planned(plan)
    if missing:
        raise StartError("; ".join(missing))
    if plan.never:
        raise ModelNeverFits(plan.verdict)
    config = with_descriptors(config, tls=certificate is not None, tell=tell)
    return Prepared(config, plan, device, footprints, address, certificate, auth)


def auth_for(server: "ServerConfig", address: str, tell: Tell) -> "AuthConfig | None":
    """None where no key is asked for. ``address`` is what the server binds to.

    Raises BrokenKeys, and ConfigError where keys are asked for and there is none: nobody could use the server.
    """
    import time

    from cohabit.access.keys_file import Keyring
    from cohabit.access.rate_limits import RateLimits
    from cohabit.api.middleware.auth import AuthConfig
    from cohabit.config.paths import keys_file

    here = ip_address(address).is_loopback
    if server.keys is False or (server.keys is None and here):
        if not here:
            tell(f"warning: every client that reaches {address} may use this server; see docs/keys.md")
        return None
    keyring = Keyring(keys_file())
    if not keyring:
        why = "server.keys is true" if server.keys else f"{address} can be reached by others"
        raise ConfigError(
            f"{why} and no key has been made: make one with `cohabit keys add NAME`"
            + ("" if server.keys else ", or set server.keys: false")
        )
    return AuthConfig(keyring, RateLimits(time.monotonic), open_health=server.open_health)


def certificate_of(config: "Config", tell: Tell) -> "Certificate | None":
    """The one that ``server.tls`` names. Raises ConfigError."""
    from cohabit.api.http.tls import Certificate, CertificateError, CertificateFiles

    tls = config.server.tls
    if tls is None:
        return None
    password = None if tls.password_file is None else config.base_dir / tls.password_file
    try:
        certificate = Certificate(
            CertificateFiles(config.base_dir / tls.certificate, config.base_dir / tls.key, password)
        )
    except CertificateError as error:
        raise ConfigError(f"server.tls.{error}") from None
    if certificate.objection is not None:
        tell(f"server.tls.certificate: clients will refuse it: {certificate.objection}")
    return certificate


def bound_to(config: "Config", host: str | None, port: int | None) -> "Config":
    """The same config with another address."""
    server = config.server.model_copy(
        update={key: value for key, value in {"host": host, "port": port}.items() if value is not None}
    )
    return config.model_copy(update={"server": server})
