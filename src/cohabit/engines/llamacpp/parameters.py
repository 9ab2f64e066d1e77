"""What of llama.cpp's own a request may set, and how much of it.

llama.cpp's server was not made for strangers: some of its fields take memory or time without bound, or end the
process. So it is given only what is declared here.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Sampler = Literal["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"]
Breaker = Annotated[str, Meta(min_length=1, max_length=32, extra_json_schema={"maxBytes": 32})]
Tokens = Annotated[int, Meta(ge=-1, le=1 << 20)]
Share = Annotated[float, Meta(ge=0, le=1)]
Kwarg = bool | int | float | str

MAX_GRAMMAR = 16 << 10  # bytes


class Parameters(msgspec.Struct, kw_only=True):
    """For completions and chats."""

    top_k: Annotated[int, Meta(ge=-1, le=1_000_000, description="the k likeliest tokens; 0: all")] | None = None
    min_p: Annotated[Share, Meta(description="tokens at least so likely, relative to the likeliest")] | None = None
    typical_p: Annotated[Share, Meta(description="locally typical sampling; 1: off")] | None = None
    top_n_sigma: (
        Annotated[float, Meta(ge=-1, le=100, description="tokens within so many sigma of the likeliest; -1: off")]
        | None
    ) = None
    repeat_penalty: (
        Annotated[float, Meta(gt=0, le=10, description="on tokens that were there already; 1: off")] | None
    ) = None
    repeat_last_n: (
        Annotated[Tokens, Meta(description="tokens looked back for it; at most `context`, -1: all")] | None
    ) = None
    dry_multiplier: (
        Annotated[float, Meta(ge=0, le=100, description="DRY: penalty on repeated sequences; 0: off")] | None
    ) = None
    dry_base: Annotated[float, Meta(ge=1, le=10, description="DRY: growth with their length")] | None = None
    dry_allowed_length: Annotated[int, Meta(ge=0, le=1024, description="DRY: length that is free")] | None = None
    dry_penalty_last_n: (
        Annotated[Tokens, Meta(description="DRY: tokens looked back; at most `context`, -1: all")] | None
    ) = None
    dry_sequence_breakers: (
        Annotated[list[Breaker], Meta(max_length=8, description="DRY: where a sequence ends")] | None
    ) = None
    xtc_probability: Annotated[Share, Meta(description="XTC: chance to leave out the likeliest; 0: off")] | None = (
        None
    )
    xtc_threshold: Annotated[Share, Meta(description="XTC: from which probability on")] | None = None
    mirostat: Annotated[Literal[0, 1, 2], Meta(description="Mirostat's version; 0: off")] | None = None
    mirostat_tau: Annotated[float, Meta(gt=0, le=100, description="Mirostat: target entropy")] | None = None
    mirostat_eta: Annotated[float, Meta(gt=0, le=1, description="Mirostat: learning rate")] | None = None
    dynatemp_range: Annotated[float, Meta(ge=0, le=5, description="dynamic temperature: range; 0: off")] | None = None
    dynatemp_exponent: Annotated[float, Meta(ge=0, le=10, description="dynamic temperature: exponent")] | None = None
    n_probs: Annotated[int, Meta(ge=0, le=20, description="as `logprobs`")] | None = None
    samplers: (
        Annotated[
            list[Sampler],
            Meta(max_length=9, description="which, in this order", extra_json_schema={"uniqueItems": True}),
        ]
        | None
    ) = None
    ignore_eos: Annotated[bool, Meta(description="go on to the limit of tokens; false")] | None = None
    cache_prompt: Annotated[bool, Meta(description="keep the prompt for one that begins alike; true")] | None = None
    grammar: (
        Annotated[
            str,
            Meta(
                description="GBNF that the answer is held to; only with the option `grammar`",
                extra_json_schema={"maxBytes": MAX_GRAMMAR},
            ),
        ]
        | None
    ) = None


class ChatParameters(Parameters, kw_only=True):
    """Those, and what goes to the template."""

    chat_template_kwargs: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Kwarg],
            Meta(description="variables of the chat template", extra_json_schema={"maxBytes": 1024}),
        ]
        | None
    ) = None
    reasoning_format: (
        Annotated[
            Literal["none", "auto", "deepseek", "deepseek-legacy"],
            Meta(description="whether thoughts stand apart, in `reasoning_content`"),
        ]
        | None
    ) = None


REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "json_schema": "send response_format of the type json_schema",
        "grammar_lazy": "send tools, or a grammar that holds from the first token on",
        "grammar_triggers": "send tools, or a grammar that holds from the first token on",
    }
)
"""Fields of llama.cpp's that are no wish but a constraint, and that it does not take safely."""
