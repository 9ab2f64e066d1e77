"""``/v1/rerank``. OpenAI has none. Sources: the API references of Jina ("Reranker") and of Cohere ("Rerank", v2)."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cohabit.schemas.body import Fields, Inner, ModelName, size

MOST_DOCUMENTS = 1000


class Document(Inner):
    """A text in the shape that Jina's answers have it."""

    text: str = Field(min_length=1)


Documents = Annotated[
    list[Annotated[str, Field(min_length=1)] | Document],
    Field(min_length=1, max_length=MOST_DOCUMENTS, fail_fast=True),
]


class RerankRequest(Fields):
    """Documents to be put in order by how well they answer a query."""

    model: ModelName | None = Field(None, description="Without, the first configured one that can.")
    query: str = Field(min_length=1)
    documents: Documents
    top_n: int | None = Field(None, ge=1, le=2**31 - 1, description="Only the best so many; without, all.")
    return_documents: bool = Field(default=False, description="Repeat each document in its result.")
    user: str | None = None

    def texts(self) -> list[str]:
        """The documents, all as text."""
        return [document if isinstance(document, str) else document.text for document in self.documents]

    def text_bytes(self) -> int:
        """Text of query and documents."""
        return size(self.query) + sum(map(size, self.texts()))


class Ranked(BaseModel):
    """One document's place."""

    index: int = Field(description="Of the document, in the order in which they were sent.")
    relevance_score: float = Field(description="From 0 to 1.")
    document: Document | None = None


class RerankUsage(BaseModel):
    """Where Jina's clients look for it."""

    prompt_tokens: int
    total_tokens: int


class RerankTokens(BaseModel):
    """Where Cohere's clients look for it."""

    input_tokens: int
    output_tokens: Literal[0] = 0


class RerankMeta(BaseModel):
    """Cohere's."""

    tokens: RerankTokens
    warnings: list[str] | None = None


class RerankAnswer(BaseModel):
    """The best document first."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[Ranked]
    usage: RerankUsage
    meta: RerankMeta
