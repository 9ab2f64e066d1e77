"""``/v1/rerank``. OpenAI has none. Sources: the API references of Jina ("Reranker") and of Cohere ("Rerank", v2)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from cohabit.schemas.base import Fields, Inner, ModelName, size

MAX_DOCUMENTS = 1000


class Document(Inner, kw_only=True):
    """A text in the shape that Jina's answers have it."""

    text: Annotated[str, Meta(min_length=1)]


Documents = Annotated[
    list[Annotated[str, Meta(min_length=1)] | Document], Meta(min_length=1, max_length=MAX_DOCUMENTS)
]


class RerankRequest(Fields, kw_only=True):
    """Documents to be put in order by how well they answer a query."""

    model: Annotated[ModelName | None, Meta(description="Without, the first configured one that can.")] = None
    query: Annotated[str, Meta(min_length=1)]
    documents: Documents
    top_n: Annotated[int, Meta(ge=1, le=2**31 - 1, description="Only the best so many; without, all.")] | None = None
    return_documents: Annotated[bool, Meta(description="Repeat each document in its result.")] = False
    user: str | None = None  # has no effect

    def texts(self) -> list[str]:
        """The documents, all as text."""
        return [document if isinstance(document, str) else document.text for document in self.documents]

    def text_bytes(self) -> int:
        """Text of query and documents."""
        return size(self.query) + sum(map(size, self.texts()))


class Ranked(Struct, kw_only=True):
    """One document's place."""

    index: Annotated[int, Meta(description="Of the document, in the order in which they were sent.")]
    relevance_score: Annotated[float, Meta(description="From 0 to 1.")]
    document: Document | UnsetType = UNSET


class RerankUsage(Struct, kw_only=True):
    """Where Jina's clients look for it."""

    prompt_tokens: int
    total_tokens: int


class RerankTokens(Struct, kw_only=True):
    """Where Cohere's clients look for it."""

    input_tokens: int
    output_tokens: Literal[0] = 0


class RerankMeta(Struct, kw_only=True):
    """Cohere's."""

    tokens: RerankTokens
    warnings: list[str] | UnsetType = UNSET


class RerankAnswer(Struct, kw_only=True):
    """The best document first."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[Ranked]
    usage: RerankUsage
    meta: RerankMeta
