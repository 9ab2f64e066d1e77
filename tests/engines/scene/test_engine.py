"""Pictures for real: what they show, what is written on them, and the sentence made of both."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from cohabit.engines.scene.engine import Finding, Scene, pictures, sentence, sentences
from cohabit.protocol.engine import EngineError
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from engines.engine_calls import answer, loaded, pieces, refusal, run
from harness import photos
from likeness import contains, same_lines
from samples import asking, clean_picture, picture, saved, written

INVOICE = ("INVOICE 2026-00417", "ACME Tools Ltd", "Total due: 1,249.50 EUR")


@pytest.fixture(scope="module")
def engine(preset_specs: dict[str, ModelSpec]) -> Iterator[Scene]:
    with loaded(Scene(), preset_specs["vision"]) as made:
        yield made


def clean(data: bytes) -> bytes:
    """As an inspector hands it on."""
    return clean_picture(data, Scene.longest_picture)


def told(engine: Scene, data: bytes, task: Task = Task.CHAT) -> tuple[str, dict[str, Any]]:
    found = answer(engine, task, {"messages": asking(clean(data))})
    (finding,) = found["findings"]
    return found["choices"][0]["message"]["content"], finding


@pytest.mark.model
@pytest.mark.parametrize(("photo", "label"), [("coffee.png", "espresso"), ("chelsea.png", "cat")])
def test_what_a_photo_shows(engine: Scene, photo: str, label: str) -> None:
    text, finding = told(engine, (photos() / photo).read_bytes())
    assert label in text
    assert any(label in one["label"] for one in finding["labels"])
    assert [one["score"] for one in finding["labels"]] == sorted(
        (one["score"] for one in finding["labels"]), reverse=True
    )


@pytest.mark.model
@pytest.mark.parametrize("task", [Task.CHAT, Task.DESCRIBE])
def test_what_is_written_on_it(engine: Scene, task: Task) -> None:
    text, finding = told(engine, saved(written(*INVOICE)), task)
    assert same_lines([line["text"] for line in finding["text"]], INVOICE)
    assert all(f'"{line["text"]}"' in text for line in finding["text"])
    assert (finding["width"], finding["height"]) == (800, 600)
    for row, line in enumerate(finding["text"]):
        (left, top), _, (right, bottom), _ = line["box"]
        assert left < 60 < right
        assert top < 60 + row * 110 + 30 < bottom


@pytest.mark.model
def test_boxes_are_in_the_pictures_own_pixels(engine: Scene) -> None:
    _, finding = told(engine, saved(written(*INVOICE).resize((3200, 2400))))
    assert same_lines([line["text"] for line in finding["text"]], INVOICE)
    (left, top), _, (right, bottom), _ = finding["text"][0]["box"]
    assert left < 240 < right
    assert 200 < top < 360 < bottom < 500


@pytest.mark.model
@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (5000, 40)])
def test_any_shape_is_taken(engine: Scene, size: tuple[int, int]) -> None:
    _, finding = told(engine, picture(size=size))
    assert (finding["width"], finding["height"]) == size


@pytest.mark.model
def test_several_pictures_are_told_apart(engine: Scene) -> None:
    messages = asking(clean(saved(written("HELLO"))))
    messages[0]["content"] += asking(clean((photos() / "coffee.png").read_bytes()))[0]["content"]
    found = answer(engine, Task.CHAT, {"messages": messages})
    lines = found["choices"][0]["message"]["content"].split("\n")
    assert lines[0].startswith("Picture 1: ")
    assert contains(lines[0], '"HELLO".')
    assert lines[1].startswith("Picture 2: ")
    assert "espresso" in lines[1]
    assert len(found["findings"]) == 2


@pytest.mark.model
def test_a_stream_says_the_same(engine: Scene) -> None:
    body = {"messages": asking(clean(saved(written(*INVOICE)))), "stream_options": {"include_usage": True}}
    whole = answer(engine, Task.CHAT, body)["choices"][0]["message"]["content"]
    first, last, used = pieces(engine, Task.CHAT, body)
    assert first["choices"][0]["delta"]["content"] == whole
    assert last["choices"][0]["finish_reason"] == "stop"
    assert used["usage"]["total_tokens"] == 0


@pytest.mark.model
def test_a_cancel_is_heard_between_lines(engine: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    line = engine._reader._line

    def counted(crop: Any, box: Any) -> Any:
        nonlocal read
        read += 1
        return line(crop, box)

    monkeypatch.setattr(engine._reader, "_line", counted)
    body = {"messages": asking(clean(saved(written(*INVOICE))))}
    assert run(engine, Task.CHAT, body, cancelled=lambda _: read >= 1)[0] == []
    assert read == 1


@pytest.mark.model
@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "user", "content": "what is it?"}], "there is no picture to describe"),
        (asking(b"text"), "a picture cannot be opened; save it again"),
    ],
)
def test_what_is_refused(engine: Scene, messages: list[dict[str, Any]], why: str) -> None:
    error = refusal(engine, Task.CHAT, {"messages": messages})
    assert (error.status, error.param) == (400, "messages")
    assert error.message.startswith(why)


@pytest.mark.model
def test_files_that_do_not_belong_together(preset_specs: dict[str, ModelSpec], tmp_path: Path) -> None:
    spec = preset_specs["vision"]
    (tmp_path / "names.json").write_text(json.dumps(["cat", "dog"]))
    for files, why in (
        ({"labels": spec.files["labels"]}, "needs files: {names: ...}"),
        ({**spec.files, "names": str(tmp_path / "names.json")}, "a JSON list of the 1000 classes"),
    ):
        with pytest.raises(EngineError, match=why):
            Scene().load(ModelSpec(name="v", engine="scene", files=files), Device("cpu"))


@pytest.mark.model
def test_a_single_sign_as_large_as_the_picture_is_a_shape(engine: Scene) -> None:
    drawn = Image.new("RGB", (600, 400), "white")
    ImageDraw.Draw(drawn).text((150, -60), "8", fill="black", font_size=500)
    _, finding = told(engine, saved(drawn))
    assert all(len(line["text"]) > 1 for line in finding["text"])


# the sentence, without a model


def finding(*labels: tuple[str, float], lines: tuple[str, ...] = ()) -> Finding:
    return Finding(
        10,
        10,
        labels=[{"label": label, "score": score} for label, score in labels],
        text=[{"text": line, "score": 0.9, "box": []} for line in lines],
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (finding(("cat", 0.9)), "This is most likely a picture of cat. There is no readable text."),
        (
            finding(("cat", 0.4), ("dog", 0.3), ("cow", 0.1)),
            "This may be a picture of cat or dog. There is no readable text.",
        ),
        (finding(("cat", 0.1)), "What this picture shows was not recognised. There is no readable text."),
        (finding(("menu", 0.6), lines=("A",)), 'This is most likely a picture of menu. The text reads: "A".'),
        (
            finding(lines=("A", "B", "C")),
            'What this picture shows was not recognised. The text reads: "A", "B" and "C".',
        ),
    ],
)
def test_the_sentence(found: Finding, said: str) -> None:
    assert sentence(found) == said


def test_several_are_numbered() -> None:
    assert [one[:10] for one in sentences([finding(), finding()])] == ["Picture 1:", "Picture 2:"]


def test_the_last_message_with_pictures_counts() -> None:
    early, late = asking(b"1"), asking(b"2")
    url = late[0]["content"][1]["image_url"]["url"]
    assert pictures([*early, *late, {"role": "assistant", "content": "ok"}, {"role": "user", "content": None}]) == [
        url
    ]
    assert pictures([{"role": "user", "content": "hi"}]) == []
