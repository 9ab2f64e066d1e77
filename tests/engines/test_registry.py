"""Engines are named by strings, so that naming one imports nothing heavy."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from cohabit.engines import registry
from cohabit.engines.registry import ENGINES, engine_class, missing_libraries


@pytest.mark.parametrize("name", ENGINES)
def test_engine_declares_tasks_options_and_libraries(name: str) -> None:
    engine = engine_class(name)
    assert engine.tasks
    assert engine.Options()
    assert not engine.libraries or engine.extra
    assert all(find_spec(module) is not None for module in engine.imports), "what it is to import first is there"
    assert engine.imports or not engine.libraries


def test_looking_at_engines_imports_none_of_their_libraries() -> None:
    code = (
        "import sys; from cohabit.engines.registry import *\n"
        "for name in ENGINES: engine_class(name); missing_libraries(engine_class(name))\n"
        "print({'xllamacpp', 'onnxruntime', 'tokenizers', 'numpy', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda library: None)
    assert missing_libraries(engine_class("onnx-embed")) == ["onnxruntime", "tokenizers", "numpy"]
