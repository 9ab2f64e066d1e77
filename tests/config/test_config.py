"""The config: what is right becomes typed, what is wrong becomes one line that says where and what would do."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest

from cohabit.config import ConfigError, defaults
from cohabit.config.load import load_config, parse_config, presets, with_budget, with_journal
from cohabit.config.model import Config, Section

FAKE = "models: {a: {engine: fake}}\n"
NEEDS_TIME = "a time such as 30s, 10m or 1h30m is needed"
GIB = 1 << 30


def parsed(text: str) -> Config:
    """From YAML."""
    return parse_config(text, Path("/somewhere"))


def test_defaults_are_those_of_the_contracts() -> None:
    config = parsed(FAKE)
    assert (config.server.host, config.server.port, config.server.drain) == ("127.0.0.1", 8000, 30.0)
    assert config.device.kind == "cpu"
    policy = defaults.model_policy(config, "a")
    assert (policy.patience, policy.max_wait, policy.max_run, policy.queue_limit) == (4, 30, 600, 256)
    assert (policy.concurrency, policy.max_batch, policy.priority, policy.slots) == (1, 1, 1, 1)
    assert (policy.keep_alive, policy.preload, policy.pin) == (None, False, False)
    assert defaults.keep_free(config, 64 * GIB) == 512 << 20
    assert config.base_dir == Path("/somewhere")


def test_the_preset_is_what_it_says() -> None:
    config = load_config()
    assert list(config.models) == ["llm", "vision", "embeddings", "tts", "stt"]
    assert defaults.budget(config, 24 * GIB) == 2 * GIB
    assert config.models["llm"].priority == 3
    assert config.models["llm"].aliases == ["gpt-4o-mini"]
    assert load_config("embedded").models == config.models
    assert "embedded" in presets()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5.5GiB", int(5.5 * GIB)),
        ("512 MiB", 512 << 20),
        ("1GB", 10**9),
        ("1048576", 1 << 20),
        ("2097152", 2 << 20),
        ("80%", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    config = parsed(f"device: {{budget: {text}, keep_free: 0}}\n{FAKE}")
    assert defaults.budget(config, 10 * GIB) == (8 * GIB if size is None else size)


def test_a_budget_is_never_more_than_the_device_has_beyond_keep_free() -> None:
    config = parsed(f"device: {{budget: 100GiB, keep_free: 1GiB}}\n{FAKE}")
    assert defaults.budget(config, 10 * GIB) == 9 * GIB
    assert defaults.budget(parsed(FAKE), 10 * GIB) == 10 * GIB - (512 << 20)
    assert defaults.budget(parsed(f"device: {{keep_free: 20GiB}}\n{FAKE}"), 10 * GIB) == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parsed(f"scheduling: {{max_wait: {text}}}\n{FAKE}").scheduling.max_wait == seconds


@pytest.mark.parametrize(("text", "seconds"), [("never", None), ("null", None), ("10m", 600)])
def test_keep_alive(text: str, seconds: float | None) -> None:
    config = parsed(f"models: {{a: {{engine: fake, keep_alive: {text}}}}}")
    assert config.models["a"].keep_alive == seconds


def test_scheduling_may_be_set_for_one_model() -> None:
    fields = "patience: 1, max_wait: 2s, max_run: 3s, max_batch: 4, queue_limit: 5"
    config = parsed(f"models: {{a: {{engine: fake, {fields}}}, b: {{engine: fake}}}}\nscheduling: {{max_wait: 9s}}")
    a, b = (defaults.model_policy(config, name) for name in "ab")
    assert (a.patience, a.max_wait, a.max_run, a.max_batch, a.queue_limit) == (1, 2, 3, 4, 5)
    assert b.max_wait == 9


def test_slots_are_threads_on_cpu_and_one_on_a_card() -> None:
    models = "models: {a: {engine: fake, options: {threads: 2}}}"
    assert defaults.model_policy(parsed(f"device: {{compute_slots: 2}}\n{models}"), "a").slots == 2
    card = parsed(f"device: {{kind: cuda:0}}\n{models}")
    assert defaults.model_policy(card, "a").slots == 1
    assert defaults.compute_slots(card) == 3
    assert defaults.keep_free(card, 1) == 2 << 30
    assert defaults.place(card).kind == "cuda"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "config: a mapping with the section `models` is needed"),
        ("- a", "config: a mapping with the section `models` is needed"),
        ("modles: {}", "config: modles: unknown key; did you mean models?"),
        ("models: {}", "config: models: at least one is needed"),
        (
            "models: {a: {engine: fake, prioriti: 2}}",
            "config: models.a.prioriti: unknown key; did you mean priority?",
        ),
        (f"server: {{prot: 1}}\n{FAKE}", "config: server.prot: unknown key; did you mean port?"),
        (f"batches: {{retension: 3d}}\n{FAKE}", "config: batches.retension: unknown key; did you mean retention?"),
        (
            f"server: {{remote_media: {{enable: true}}}}\n{FAKE}",
            "config: server.remote_media.enable: unknown key; did you mean enabled?",
        ),
        (
            "models: {a: {engine: fake, footprint: {infrence: 1}}}",
            "config: models.a.footprint.infrence: unknown key; did you mean inference?",
        ),
        ("models: {a: {}}", "config: models.a.engine: is missing"),
        ("models: {a: {engine: fak}}", "config: models.a.engine: there is no engine 'fak'; did you mean fake?"),
        (
            "models: {a: {engine: fake, options: {tokns: 1}}}",
            "config: models.a.options.tokns: unknown key; did you mean tokens?",
        ),
        (
            "models: {a: {engine: fake, options: {tokens: many}}}",
            "config: models.a.options.tokens: expected `int`, got `str`",
        ),
        *(
            (
                f"models: {{a: {{engine: {engine}, source: 'file:x', options: {{{option}: {value}}}}}}}",
                f"config: models.a.options.{option}: expected `int` >= 1",
            )
            for engine, option, value in [
                ("fake", "context", 0),
                ("llamacpp", "context", -1),
                ("llamacpp", "threads", 0),
                ("onnx-embed", "context", 0),
                ("onnx-embed", "max_batch_tokens", 0),
                ("scene", "threads", 0),
                ("whisper", "beam_size", 0),
            ]
        ),
        ("models: {a: {engine: llamacpp}}", "config: models.a.source: is missing; the engine llamacpp needs weights"),
        (f"device: {{kind: tpu}}\n{FAKE}", "config: device.kind: no such device: 'tpu'; use cpu or cuda:0"),
        (
            f"device: {{budget: 700}}\n{FAKE}",
            "config: device.budget: less than 1 MiB is not usable: give a unit, such as 700MiB or 5.5GiB",
        ),
        (f"device: {{budget: lots}}\n{FAKE}", "config: device.budget: a size such as 512MiB or 5.5GiB is needed"),
        (
            f"device: {{budget: 120%}}\n{FAKE}",
            "config: device.budget: a share between 0% and 100% is needed, such as 80%",
        ),
        (
            f"scheduling: {{max_wait: soon}}\n{FAKE}",
            f"config: scheduling.max_wait: {NEEDS_TIME}",
        ),
        (
            f"scheduling: {{max_wait: .inf}}\n{FAKE}",
            f"config: scheduling.max_wait: {NEEDS_TIME}",
        ),
        (
            f"scheduling: {{max_wait: -1}}\n{FAKE}",
            f"config: scheduling.max_wait: {NEEDS_TIME}",
        ),
        (
            "models: {a: {engine: fake, aliases: [b]}, b: {engine: fake}}",
            "config: models.a.aliases: b is a model's name already",
        ),
        (
            "models: {a: {engine: fake, aliases: [x]}, b: {engine: fake, aliases: [x]}}",
            "config: models.b.aliases: x is an alias of a already",
        ),
        (
            "device: {compute_slots: 2}\nmodels: {a: {engine: fake, options: {threads: 3}}}",
            "config: models.a: it takes 3 compute slots and the device has 2; lower its slots (on cpu",
        ),
        ("models: {a: {engine: fake}, a: {engine: fake}}", 'config: line 1: found duplicate key "a"'),
        ("models: [unclosed", "config: line 1: "),
    ],
)
def test_a_mistake_is_one_line_that_says_where(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parsed(text)
    line = str(raised.value)
    assert line.startswith(told)
    assert "\n" not in line


def test_a_bad_source_names_its_model() -> None:
    with pytest.raises(ConfigError, match=r"models\.a\.source: .*nowhere"):
        parsed("models: {a: {engine: llamacpp, source: 'nowhere:x'}}")


def test_files_and_presets_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean the preset embedded"):
        load_config("embeded")
    with pytest.raises(ConfigError, match="presets are embedded"):
        load_config(str(tmp_path / "none"))
    (tmp_path / "latin.yaml").write_bytes(b"models: {\xff: 1}")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(str(tmp_path / "latin.yaml"))


def test_another_budget_for_one_start() -> None:
    config = with_budget(parsed(FAKE), "700MiB")
    assert defaults.budget(config, 10 * GIB) == 700 << 20
    assert config.base_dir == Path("/somewhere")
    with pytest.raises(ConfigError, match="--budget: a size"):
        with_budget(config, "much")
    assert with_budget(config, None) is config


def test_a_journal_is_asked_for() -> None:
    assert parsed(FAKE).server.journal is None
    config = parsed(f"server: {{journal: 5MiB, drain: 2s}}\n{FAKE}")
    assert config.server.journal == 5 << 20
    changed = with_journal(config, 7)
    assert (changed.server.journal, changed.server.drain, changed.base_dir) == (7, 2.0, config.base_dir)


@pytest.mark.parametrize("field", ["priority", "patience"])
def test_what_is_counted_with_is_finite(field: str) -> None:
    with pytest.raises(ConfigError, match=f"models.a.{field}: "):
        parsed(f"models: {{a: {{engine: fake, {field}: .inf}}}}")


def test_what_a_worker_is_told() -> None:
    config = parsed("models: {a: {engine: fake, concurrency: 3, options: {tokens: 2}, files: {x: 'file:/y'}}}")
    spec = defaults.model_spec(config, "a", Path("/m"), {"x": Path("/y")})
    assert (spec.name, spec.engine, spec.source, spec.concurrency) == ("a", "fake", "/m", 3)
    assert spec.files == {"x": "/y"}
    assert spec.options == {"tokens": 2}
    assert spec.trust_remote_code is False


def fields(schema: dict[str, Any]) -> set[str]:
    """Every name a config may hold."""
    found = set(schema["properties"])
    for definition in schema["$defs"].values():
        found |= set(definition.get("properties", {}))
    return found


def test_every_field_tells_editors_what_it_is() -> None:
    schema = Config.model_json_schema()
    for name, definition in schema["$defs"].items():
        for field, described in definition.get("properties", {}).items():
            assert described.get("description"), f"{name}.{field}"
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    missing = {field for field in fields(schema) if f"`{field}`" not in page}
    assert missing == set(), "docs/configuration.md tells of every field"


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ("hibari", "hibari has no voice nova; its voices are default, heart"),
        ("fake", "fake has no voice nova; it does not speak"),
    ],
)
def test_a_voice_that_is_not_there(engine: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        parsed(f"models: {{a: {{engine: {engine}, voices: {{alloy: nova}}}}}}")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://app.example.org", "https://app.example.org"),
        ("HTTPS://App.example.org:443/", "https://app.example.org"),
        ("http://localhost:80", "http://localhost"),
        ("https://localhost:80", "https://localhost:80"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("*", "*"),
    ],
)
def test_origins_are_as_browsers_write_them(given: str, read: str) -> None:
    assert parsed(f"server: {{cors: ['{given}']}}\n{FAKE}").server.cors == [read]


@pytest.mark.parametrize(
    ("given", "read"),
    [("Cohabit.LAN", "cohabit.lan"), ("[2001:db8:0::1]", "2001:db8::1"), ("192.0.2.1", "192.0.2.1"), ("*", "*")],
)
def test_names_of_the_server(given: str, read: str) -> None:
    assert parsed(f"server: {{hosts: ['{given}']}}\n{FAKE}").server.hosts == [read]


@pytest.mark.parametrize(
    ("field", "given", "needed"),
    [
        ("cors", "app.example.org", "an origin such as"),
        ("cors", "https://app.example.org/path", "an origin such as"),
        ("cors", "null", "an origin such as"),
        ("cors", "https://*.example.org", "an origin such as"),
        ("hosts", "https://cohabit.lan", "the name of a host is needed"),
        ("hosts", "cohabit.lan:8000", "the name of a host is needed"),
        ("trusted_proxies", "*", "an address such as"),
        ("trusted_proxies", "10.0.0.1/8", "an address such as"),
        ("trusted_proxies", "proxy.lan", "an address such as"),
    ],
)
def test_the_edge_is_told_in_the_words_of_the_net(field: str, given: str, needed: str) -> None:
    with pytest.raises(ConfigError, match=rf"server\.{field}\.0: {needed}"):
        parsed(f"server: {{{field}: ['{given}']}}\n{FAKE}")


def test_what_tls_needs() -> None:
    config = parsed(f"server: {{tls: {{certificate: a.pem, key: /b/c.pem}}}}\n{FAKE}")
    assert config.server.tls is not None
    assert (config.server.tls.certificate, config.server.tls.key) == (Path("a.pem"), Path("/b/c.pem"))
    with pytest.raises(ConfigError, match=r"server\.tls\.key: is missing"):
        parsed(f"server: {{tls: {{certificate: a.pem}}}}\n{FAKE}")
    with pytest.raises(ConfigError, match=r"server\.tls\.keys: unknown key; did you mean key\?"):
        parsed(f"server: {{tls: {{certificate: a.pem, keys: b}}}}\n{FAKE}")


def test_voices_may_be_given_other_names() -> None:
    config = parsed("models: {a: {engine: hibari, voices: {alloy: heart}}}")
    assert config.models["a"].voices == {"alloy": "heart"}


def test_the_examples_in_the_docs_are_right() -> None:
    import re

    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        parse_config(block, Path.cwd())


def test_the_committed_schema_is_current() -> None:
    import json

    from cohabit.cli.schema import config_schema

    committed = json.loads((Path(__file__).parents[2] / "docs" / "config.schema.json").read_text())
    assert committed == json.loads(json.dumps(config_schema())), "run: cohabit schema > docs/config.schema.json"


def test_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from cohabit.config import paths

    monkeypatch.setenv("COHABIT_HOME", str(tmp_path))
    assert paths.weights_dir() == tmp_path / "cache" / "weights"
    assert paths.footprints_file() == tmp_path / "state" / "footprints.json"
    monkeypatch.delenv("COHABIT_HOME")
    assert paths.weights_dir().parts[-2:] == ("cohabit", "weights")
    assert paths.footprints_file().parts[-2:] == ("cohabit", "footprints.json")


def sections(kind: type[Section], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where the config has a section: the place of each."""
    yield place
    for name, field in kind.model_fields.items():
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if isinstance(each, type)]
        for each in inner:
            if issubclass(each, Section):
                key = ("a",) if get_origin(field.annotation) is dict else ()
                yield from sections(each, (*place, name, *key))


@pytest.mark.parametrize("place", list(sections(Config)), ids=".".join)
def test_an_unknown_key_is_one_line_in_every_section(place: tuple[str, ...]) -> None:
    data: dict[str, Any] = {"models": {"a": {"engine": "fake"}}}
    section = data
    for name in place:
        section = section.setdefault(name, {})
    section["nonsense"] = 1
    with pytest.raises(ConfigError) as caught:
        parse_config(json.dumps(data), Path("/"))
    assert f"{'.'.join((*place, 'nonsense'))}: unknown key" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "models: " + "[" * 3000,
        "models: " + "[" * 3000 + "]" * 3000,
        "models: " + "{a: " * 3000 + "1" + "}" * 3000,
        "- " * 3000 + "x",
        "\n".join(" " * depth + "a:" for depth in range(3000)),
        "".join("? " for _ in range(3000)) + "x",
    ],
    ids=["open", "lists", "mappings", "block lists", "block mappings", "keys"],
)
def test_a_config_that_is_nested_without_end_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^config: line [0-9]+: nested deeper than 50 levels$"):
        parse_config(text, Path("/"))
