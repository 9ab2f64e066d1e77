"""Uses a server through LlamaIndex and prints what it saw: ``python use.py BASE_URL``."""

import asyncio
import json
import sys
from typing import Any

import openai
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

QUESTION = "What is the capital of France?"
api_base = sys.argv[1]
asked = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content=QUESTION)]
texts = ["A man is eating food", "Someone is having a meal", "Stocks crashed"]


def model(**settings: Any) -> Any:
    """Of the preset."""
    given = {"model": "llm", "temperature": 0, "max_tokens": 16, "context_window": 2048, "max_retries": 0, **settings}
    return OpenAILike(api_base=api_base, api_key="none", **given)


def outcome(call: Any) -> Any:
    """What a call gives, or how it is refused."""
    try:
        return str(call())
    except openai.APIStatusError as error:
        return [error.status_code, error.code, error.param]


async def awaited() -> str:
    """The pieces of a stream, without blocking."""
    pieces = await model(is_chat_model=True).astream_chat(asked)
    return "".join([piece.delta or "" async for piece in pieces])


chat = model(is_chat_model=True)
embeddings = OpenAILikeEmbedding(api_base=api_base, api_key="none", model_name="embeddings", embed_batch_size=2)
print(
    json.dumps(
        {
            "chat": chat.chat(asked).message.content,
            "streamed": [piece.delta or "" for piece in chat.stream_chat(asked)],
            "awaited": asyncio.run(awaited()),
            "completed": model().complete("The capital of France is").text,
            "streamed_completion": [piece.delta for piece in model().stream_complete("The capital of France is")],
            "vectors": embeddings.get_text_embedding_batch(texts),
            "query": embeddings.get_query_embedding(texts[0]),
            "no_such_model": outcome(lambda: model(model="none", is_chat_model=True).chat(asked)),
        }
    )
)
