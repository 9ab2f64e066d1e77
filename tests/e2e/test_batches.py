"""A batch over the preset through the official client: real models, real answers, in the order of the input."""

import json

import openai
import pytest

from cohabit.schemas.batches import ENDED
from harness import Running, wait_until

pytestmark = [pytest.mark.process, pytest.mark.model]

EMBED = {"model": "embeddings", "input": "a sentence"}
CHAT = {"model": "llm", "max_tokens": 4, "messages": [{"role": "user", "content": "Say hello."}]}
SPEAK = {"type": "speak", "data": {"text": "Hello."}}


def test_batch_of_all_kinds_is_answered(server: Running, client: openai.OpenAI) -> None:
    asks = [("/v1/embeddings", EMBED)] * 20 + [("/v1/chat/completions", CHAT)] * 3 + [("/inference", SPEAK)]
    lines = [
        json.dumps({"custom_id": f"c{number}", "method": "POST", "url": url, "body": body})
        for number, (url, body) in enumerate(asks)
    ]
    text = "\n".join([*lines, "not a line"]).encode()
    file = client.files.create(file=("requests.jsonl", text), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", metadata={"of": "a test"}
    )
    name = batch.id
    wait_until(lambda: client.batches.retrieve(name).status in ENDED)
    batch = client.batches.retrieve(name)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (24, 1)
    assert batch.output_file_id is not None
    assert batch.error_file_id is not None
    found = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [each["custom_id"] for each in found] == [f"c{number}" for number in range(24)]
    assert all(each["response"]["status_code"] == 200 for each in found)
    direct = client.embeddings.create(**EMBED, encoding_format="float")  # type: ignore[arg-type]  # one dict for both
    assert found[0]["response"]["body"]["data"][0]["embedding"] == pytest.approx(direct.data[0].embedding, abs=1e-5)
    assert found[20]["response"]["body"]["choices"][0]["message"]["content"]
    assert len(found[23]["response"]["body"]["audio"]) > 10_000
    (wrong,) = client.files.content(batch.error_file_id).text.splitlines()
    assert json.loads(wrong)["error"]["code"] == "invalid_json_line"
    for name in (file.id, batch.output_file_id, batch.error_file_id):
        assert client.files.delete(name).deleted
    assert server.http.delete(f"/v1/batches/{batch.id}").json()["deleted"] is True
    assert client.files.list().data == []
    assert "a sentence" not in server.log.read_text()
