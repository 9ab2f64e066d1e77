"""Names of engines and where each lives. A new engine is one line here."""

from importlib import import_module
from importlib.util import find_spec

from cohabit.protocol.engine import Engine

ENGINES: dict[str, str] = {
    "fake": "cohabit.engines.fake:Fake",
    "hibari": "cohabit.engines.hibari:Hibari",
    "llamacpp": "cohabit.engines.llamacpp.engine:LlamaCpp",
    "onnx-embed": "cohabit.engines.onnx_embed:OnnxEmbed",
    "scene": "cohabit.engines.scene.engine:Scene",
    "whisper": "cohabit.engines.whisper:Whisper",
}


def engine_class(name: str) -> type[Engine]:
    """The class of an engine. Raises KeyError for a name that is not in ENGINES."""
    module, _, attribute = ENGINES[name].partition(":")
    found: type[Engine] = getattr(import_module(module), attribute)
    return found


def missing_libraries(engine: type[Engine]) -> list[str]:
    """The libraries of an engine that are not installed here; looks without importing them."""
    return [library for library in engine.libraries if find_spec(library) is None]
