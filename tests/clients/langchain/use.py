"""Uses a server through LangChain and prints what it saw: ``python use.py BASE_URL PICTURE_URL``."""

import asyncio
import json
import sys
from typing import Any

import openai
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

QUESTION = "What is the capital of France?"
base_url, picture = sys.argv[1:]


def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"sunny in {city}"


def chat(**settings: Any) -> Any:
    """A chat model with fields that OpenAI's own server takes, and others that few do."""
    given = {"model": "llm", "temperature": 0, "seed": 1, "max_tokens": 16, **settings}
    return ChatOpenAI(base_url=base_url, api_key="none", max_retries=0, **given)


def outcome(call: Any) -> Any:
    """What a call gives, or how it is refused."""
    try:
        return call()
    except openai.APIStatusError as error:
        return [error.status_code, error.code, error.param]


def embeddings(**settings: Any) -> Any:
    """With the preset's model."""
    return OpenAIEmbeddings(base_url=base_url, api_key="none", model="embeddings", max_retries=0, **settings)


pieces = list(chat(stream_usage=True).stream(QUESTION))
laden = chat(
    service_tier="auto",
    store=False,
    metadata={"purpose": "test"},
    top_p=1,
    presence_penalty=0,
    frequency_penalty=0,
    model_kwargs={"parallel_tool_calls": True, "user": "somebody"},
    default_headers={"OpenAI-Organization": "org", "OpenAI-Project": "project"},
)
after_tool = [
    HumanMessage("What is the weather in Paris?"),
    AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Paris"}, "id": "call_1"}]),
    ToolMessage("sunny in Paris", tool_call_id="call_1"),
]
brief = SystemMessage([{"type": "text", "text": "Be brief."}])
with_tool = chat(max_tokens=64).bind_tools([weather], tool_choice="weather")
looked_at = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": picture}}]
texts = ["A man is eating food", "Someone is having a meal", "Stocks crashed"]
print(
    json.dumps(
        {
            "invoked": chat().invoke(QUESTION).content,
            "usage": chat().invoke(QUESTION).usage_metadata,
            "streamed": [piece.content for piece in pieces],
            "streamed_usage": next(piece.usage_metadata for piece in pieces if piece.usage_metadata),
            "awaited": asyncio.run(chat().ainvoke(QUESTION)).content,
            "batch": [message.content for message in chat().batch([QUESTION, QUESTION, QUESTION])],
            "laden": laden.invoke(QUESTION).content,
            "parts": chat().invoke([brief, HumanMessage(QUESTION)]).content,
            "tool": outcome(lambda: with_tool.invoke("What is the weather in Paris?").tool_calls),
            "after_tool": chat().invoke(after_tool).content,
            "completed": OpenAI(base_url=base_url, api_key="none", model="llm", temperature=0, max_tokens=8).invoke(
                "The capital of France is"
            ),
            "picture": chat(model="vision").invoke([HumanMessage(looked_at)]).content,
            "vectors": embeddings(check_embedding_ctx_length=False).embed_documents(texts),
            "foreign_tokens": outcome(lambda: embeddings().embed_query("food")),
            "no_such_model": outcome(lambda: chat(model="none").invoke(QUESTION).content),
            "blind": outcome(lambda: chat().invoke([HumanMessage(looked_at)]).content),
        }
    )
)
