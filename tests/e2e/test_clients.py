"""The preset through the official openai client and curl-like requests: real models, real answers."""

import openai
import psutil
import pytest

from harness import Running, chat_over_socket

pytestmark = [pytest.mark.process, pytest.mark.model]

MIB = 1 << 20


@pytest.mark.parametrize(
    "question",
    ["What is the capital of France?", "Which city is the capital of France?", "The capital of France is"],
)
def test_chat_answers_a_question(client: openai.OpenAI, question: str) -> None:
    answer = client.chat.completions.create(
        model="llm", messages=[{"role": "user", "content": question}], temperature=0, seed=1, max_tokens=24
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > 5
    assert answer.model == "llm"


def test_stream_has_the_text_of_the_plain_answer(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "Which city is the capital of France?"}]
    settings = {"model": "gpt-4o-mini", "messages": messages, "temperature": 0, "seed": 1, "max_tokens": 24}
    whole = client.chat.completions.create(**settings)  # type: ignore[call-overload]  # one dict for both calls
    stream = client.chat.completions.create(  # type: ignore[call-overload]  # one dict for both calls
        **settings, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason


def test_completion_is_answered(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="llm", prompt="The capital of France is", temperature=0, max_tokens=8)
    assert "Paris" in answer.choices[0].text
    pieces = client.completions.create(
        model="llm", prompt="The capital of France is", temperature=0, max_tokens=8, stream=True
    )
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == answer.choices[0].text


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_similar_texts_have_similar_embeddings(client: openai.OpenAI, encoding: str) -> None:
    answer = client.embeddings.create(
        model="text-embedding-3-small",
        input=["A man is eating food", "Someone is having a meal", "Stocks crashed"],
        encoding_format=encoding,  # type: ignore[arg-type]  # parametrised
    )
    vectors = [entry.embedding for entry in answer.data]
    if encoding == "base64":
        import base64
        import struct

        raw = [base64.b64decode(str(vector)) for vector in vectors]
        vectors = [list(struct.unpack(f"<{len(one) // 4}f", one)) for one in raw]

    def similarity(left: list[float], right: list[float]) -> float:
        return sum(a * b for a, b in zip(left, right, strict=True))

    assert len(vectors[0]) == 384
    assert similarity(vectors[0], vectors[0]) == pytest.approx(1.0, abs=1e-3)
    assert similarity(vectors[0], vectors[1]) > similarity(vectors[0], vectors[2]) + 0.3
    assert answer.usage.prompt_tokens > 10


def test_tools_and_json_schema_reach_the_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="llm",
        messages=[{"role": "user", "content": "Give me a person named Bob aged 33 as JSON."}],
        temperature=0,
        max_tokens=64,
        response_format={
            "type": "json_schema",
            "json_schema": {
                "name": "person",
                "schema": {
                    "type": "object",
                    "properties": {"name": {"type": "string", "maxLength": 10}, "age": {"type": "integer"}},
                    "required": ["name", "age"],
                },
            },
        },
    )
    import json

    person = json.loads(answer.choices[0].message.content or "")
    assert set(person) == {"name", "age"}


def test_inference_route_answers_in_its_own_shape(server: Running) -> None:
    chat = server.http.post(
        "/inference",
        json={
            "type": "chat",
            "data": {"prompt": "Which city is the capital of France?", "temperature": 0, "max_tokens": 16},
        },
    )
    assert "Paris" in chat.json()["text"]
    assert chat.json()["usage"]["completion_tokens"] > 0
    embed = server.http.post("/inference?request_type=embed", json={"texts": ["a", "b"]})
    assert [len(vector) for vector in embed.json()["embeddings"]] == [384, 384]


def test_models_lists_names_and_aliases(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert {"llm", "gpt-4o-mini", "embeddings", "text-embedding-3-small", "vision", "tts-1", "whisper-1"} <= names
    assert client.models.retrieve("gpt-4o-mini").id == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "llm", "messages": [{"role": "user", "content": "word " * 5000}]}, "context_length_exceeded"),
        (
            {"model": "llm", "messages": [{"role": "user", "content": "x" * (1 << 20) + "y"}]},
            "context_length_exceeded",
        ),
        ({"model": "llm", "messages": [{"role": "user", "content": "a"}], "tools": "no"}, "invalid_request"),
        ({"model": "embeddings", "messages": [{"role": "user", "content": "a"}]}, "unsupported_task"),
    ],
)
def test_refusal_of_a_chat_names_the_field(server: Running, body: dict[str, object], code: str) -> None:
    answer = server.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    assert "word word" not in answer.text


def test_too_long_text_for_embeddings_is_refused(server: Running) -> None:
    answer = server.embed("fine", "word " * 1000)
    assert answer.status_code == 400
    assert "input.1 has 1002 tokens and the model takes 256" in answer.json()["error"]["message"]


def test_the_control_plane_is_small_and_knows_no_engine_library(server: Running) -> None:
    server.chat(max_tokens=1)
    process = psutil.Process(server.pid)
    assert process.memory_info().rss < 150 * MIB
    mapped = " ".join(area.path for area in process.memory_maps())
    assert not any(library in mapped for library in ("torch", "onnxruntime", "xllamacpp", "tokenizers", "numpy"))


def test_prompts_and_answers_are_not_logged(server: Running) -> None:
    canary = "Xylophonecanary"
    server.chat(f"Repeat: {canary}", max_tokens=8)
    server.embed(canary)
    server.chat(canary, tools="wrong")
    server.http.post(f"/inference?request_type={canary}", json={"prompt": canary})
    assert canary not in server.log.read_text()


@pytest.mark.parametrize("stream", [True, False])
def test_disconnect_stops_the_model(server: Running, stream: bool) -> None:
    server.chat(max_tokens=1)
    before = server.metric("cohabit_overrun_tokens_total", model="llm")
    cancelled = {"model": "llm", "task": "chat", "outcome": "cancelled"}
    count = server.metric("cohabit_finished_total", **cancelled)
    body = {
        "model": "llm",
        "messages": [{"role": "user", "content": "Count to a thousand."}],
        "max_tokens": 1500,
        "stream": stream,
        "ignore_eos": True,
    }
    connection = chat_over_socket(server, body)
    server.until(lambda: server.model("llm")["in_flight"] == 1)
    if stream:
        while b"content" not in connection.recv(65536):
            pass
    connection.close()
    server.until(lambda: server.metric("cohabit_finished_total", **cancelled) == count + 1)
    assert server.metric("cohabit_overrun_tokens_total", model="llm") - before <= 3


def test_disconnect_during_a_long_prompt_stops_the_model(server: Running) -> None:
    server.chat(max_tokens=1)
    body = {"model": "llm", "messages": [{"role": "user", "content": "wurd " * 1000}], "max_tokens": 5}
    connection = chat_over_socket(server, body)
    server.until(lambda: server.model("llm")["in_flight"] == 1)
    connection.close()
    server.until(lambda: server.model("llm")["in_flight"] == 0)  # reading it all takes some 4 s more
