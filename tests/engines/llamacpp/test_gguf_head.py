"""A GGUF file with another head: the rest is as it was, and the model still says what it said."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from platformdirs import user_cache_path

from cohabit.cli.pull import fetch_missing
from cohabit.config import defaults
from cohabit.config.load import load_config
from cohabit.config.paths import derived_dir
from cohabit.engines.llamacpp.engine import LlamaCpp
from cohabit.engines.llamacpp.gguf_head import EMBEDDING, HEAD, rewrite
from cohabit.engines.llamacpp.gguf_header import head_bytes, read_metadata
from cohabit.protocol.engine import Chunk, EngineRequest
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from cohabit.server.weights import wanted
from cohabit.sources import derive, resolve

TYPE = gguf.GGMLQuantizationType
OTHER = "blk.0.attn_q.weight"


def written(path: Path, *names: str, kind: Any = TYPE.Q8_0) -> Path:
    """A file of tensors of 64 rows of 32, and some keys of every kind."""
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.embedding_length", 32)
    writer.add_string("general.name", "a test")
    writer.add_array("tokenizer.ggml.tokens", ["one", "two"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
    for name in names:
        rows = random.standard_normal((64, 32)).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def plain(tensor: Any) -> Any:
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


@pytest.mark.parametrize(
    ("names", "head"), [((EMBEDDING, OTHER, HEAD), HEAD), ((EMBEDDING, OTHER), EMBEDDING), ((OTHER, HEAD), HEAD)]
)
@pytest.mark.parametrize("kind", [TYPE.Q8_0, TYPE.Q4_0])
def test_only_the_head_is_rewritten(names: tuple[str, ...], head: str, kind: Any, tmp_path: Path) -> None:
    source = written(tmp_path / "source.gguf", *names, kind=kind)
    rewrite(source, tmp_path / "target.gguf")
    before, after = tensors(source), tensors(tmp_path / "target.gguf")
    assert before.keys() == after.keys()
    for name in names:
        if name == head:
            assert after[name].tensor_type == TYPE.BF16
            assert np.allclose(plain(after[name]), plain(before[name]), rtol=2**-8)
        else:
            assert after[name].tensor_type == kind
            assert np.array_equal(after[name].data, before[name].data)
    fields, others = gguf.GGUFReader(source).fields, gguf.GGUFReader(tmp_path / "target.gguf").fields
    assert {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")} == {
        key: field.contents() for key, field in others.items() if not key.startswith("GGUF.")
    }


def converted(source: Path, target: Path) -> tuple[int, list[str]]:
    """The converter's exit code and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "cohabit.engines.llamacpp.gguf_head", source, target],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout.splitlines()


def test_unusable_file_is_explained_in_one_line(tmp_path: Path) -> None:
    headless = written(tmp_path / "headless.gguf", OTHER)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(written(tmp_path / "whole.gguf", HEAD).read_bytes()[:-500])
    nonsense = tmp_path / "nonsense.gguf"
    nonsense.write_bytes(b"this is no such file" * 100)
    for source in (headless, cut, nonsense, tmp_path / "missing.gguf"):
        code, said = converted(source, tmp_path / "target.gguf")
        assert (code, len(said)) == (1, 1), source


@pytest.mark.process
def test_head_is_rewritten_before_serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first request, when another model would have been stopped for it."""
    monkeypatch.setenv("COHABIT_HOME", str(tmp_path / "home"))
    written(tmp_path / "good.gguf", HEAD)
    written(tmp_path / "headless.gguf", OTHER)
    sources = {"good": "good.gguf", "headless": "headless.gguf", "missing": "missing.gguf"}
    models = {
        name: {"engine": "llamacpp", "source": f"file:{file}", "options": {"head": "bf16"}}
        for name, file in sources.items()
    }
    (tmp_path / "config.yaml").write_text(json.dumps({"models": models}))
    config = load_config(str(tmp_path / "config.yaml"))
    for _ in range(2):
        assert fetch_missing(config).keys() == {"headless", "missing"}
        (made,) = derived_dir().glob("*.gguf")
        assert made.name.startswith("good-")
    assert all(one.here(config.base_dir) == (name == "good") for name, one in wanted(config).items())


def test_head_is_rewritten_only_if_configured() -> None:
    assert LlamaCpp.derivations(LlamaCpp.Options()) == {}
    assert LlamaCpp.derivations(LlamaCpp.Options(head="bf16")).keys() == {"source"}


def test_plan_includes_the_larger_head() -> None:
    metadata = {"general.architecture": "llama", "llama.vocab_size": 1000, "llama.embedding_length": 64}
    assert head_bytes(metadata) == 128_000
    assert head_bytes({}) == 0


@pytest.mark.process
@pytest.mark.model
def test_preset_model_is_rewritten_once_with_the_same_answers(tmp_path: Path) -> None:
    config = load_config("embedded")
    model = config.models["llm"]
    assert model.source is not None
    weights = user_cache_path("cohabit") / "weights"
    source = resolve(model.source, weights_dir=weights, base_dir=Path.cwd())
    assert source is not None
    derivation = defaults.derivations(model)["source"]
    made = derive(source, derivation, tmp_path)
    stamp = made.stat().st_mtime_ns
    assert derive(source, derivation, tmp_path) == made
    assert made.stat().st_mtime_ns == stamp
    size = source.stat().st_size
    assert size < made.stat().st_size < size + head_bytes(read_metadata(source)) + (1 << 20)
    answers = {path: said(path, model.options) for path in (source, made)}
    assert "Paris" in answers[source]
    assert "Paris" in answers[made]


def said(path: Path, options: dict[str, Any]) -> str:
    """What a model says of the capital of France."""
    engine = LlamaCpp()
    engine.load(ModelSpec(name="llm", engine="llamacpp", source=str(path), options=options), Device("cpu"))
    body = (
        b'{"messages": [{"role": "user", "content": "What is the capital of France?"}], '
        b'"temperature": 0, "max_tokens": 16}'
    )
    try:
        chunks = list(engine.run([EngineRequest(1, Task.CHAT, body)], lambda _: False))
    finally:
        engine.close()
    return b"".join(chunk.data for chunk in chunks if isinstance(chunk, Chunk)).decode()
