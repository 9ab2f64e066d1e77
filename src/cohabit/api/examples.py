"""A body for each route to begin with, as the interactive docs offer it. The models are those of the preset."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ChatRequest": {
            "model": "llm",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0,
        },
        "CompletionRequest": {"model": "llm", "prompt": "The capital of France is", "max_tokens": 16},
        "ResponseRequest": {"model": "llm", "input": "What is the capital of France?", "temperature": 0},
        "EmbeddingRequest": {"model": "embeddings", "input": ["one", "two"]},
        "SpeechRequest": {"model": "tts", "input": "Hello there.", "response_format": "wav"},
        "InferenceRequest": {"type": "embed", "data": {"texts": ["one", "two"]}},
    }
)
"""By the name of the body's schema."""
