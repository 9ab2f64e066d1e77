"""The engine ``llamacpp``: GGUF models through xllamacpp, llama.cpp's server in process.

llama.cpp batches continuously, so requests come singly, ``concurrency`` at once, each with ``context`` tokens of
its own. Its API is OpenAI's, or nearly (llamacpp_body). It is always asked to stream, since only a stream can be
cancelled; a plain answer is put together from the pieces.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import msgspec

from cohabit.engines.answer_builder import wants_usage
from cohabit.engines.llamacpp import gbnf
from cohabit.engines.llamacpp.body import RequestTranslator
from cohabit.engines.llamacpp.gguf_header import (
    NotGguf,
    Vocabulary,
    head_bytes,
    kv_bytes,
    read_metadata,
    read_vocabulary,
)
from cohabit.engines.llamacpp.grammars import MARK, trial
from cohabit.engines.llamacpp.parameters import REFUSED, ChatParameters, Parameters
from cohabit.engines.llamacpp.prompt import Prompts
from cohabit.engines.per_item import BadItem
from cohabit.protocol.engine import (
    Cancelled,
    Chunk,
    Count,
    Derivation,
    Engine,
    EngineError,
    EngineRequest,
    ItemError,
    Output,
)
from cohabit.protocol.parameters import BadParameter
from cohabit.protocol.spec import Device, Estimate, ModelSpec
from cohabit.protocol.tasks import Capability, Task

BATCH = 128  # tokens of a prompt between two looks at a cancel: half a second for 135M on one core
PROCESS_BYTES = 60 << 20  # Python with xllamacpp
COMPUTE_BYTES = 24 << 20  # llama.cpp's compute buffers at BATCH

KNOWN_GRAMMARS = 1024  # of which it is remembered whether they can be used
_stack_size = threading.Lock()  # held while that of new threads is another one

Piece = dict[str, Any]


class LlamaCppOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Options in the config."""

    context: Count = 4096  # tokens each request may use, prompt and answer together
    threads: Count = 1
    gpu_layers: int = -1  # on cuda: layers on the card; -1 is all
    head: Literal["bf16"] | None = None  # the type that the output head is rewritten to; None: as it is
    grammar: bool = False  # whether requests may bring grammars of their own
    chat_template: str | None = None  # llama.cpp's name of one, such as chatml, or Jinja; None: the model's own


class LlamaCpp(Engine):
    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CHAT, Task.COMPLETE})
    Options: ClassVar[type[msgspec.Struct]] = LlamaCppOptions
    Parameters: ClassVar[Mapping[Task, type[msgspec.Struct]]] = MappingProxyType(
        {Task.CHAT: ChatParameters, Task.COMPLETE: Parameters}
    )
    refused: ClassVar[Mapping[str, str]] = REFUSED
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.TOOLS,
            Capability.SCHEMA,
            Capability.LOGPROBS,
            Capability.CHOICES,
            Capability.STOP,
            Capability.ECHO,
            Capability.SAMPLING,
        }
    )
    libraries: ClassVar[tuple[str, ...]] = ("xllamacpp",)
    imports: ClassVar[tuple[str, ...]] = libraries
    extra: ClassVar[str | None] = "llamacpp"
    continuous: ClassVar[bool] = True

    @classmethod
    def derivations(cls, options: msgspec.Struct) -> Mapping[str, Derivation]:
        """The file with another head, where that is asked for."""
        assert isinstance(options, LlamaCppOptions)
        return (
            {}
            if options.head is None
            else {"source": Derivation(".gguf", ".gguf", "cohabit.engines.llamacpp.gguf_head")}
        )

    @classmethod
    def estimate(cls, spec: ModelSpec, source_bytes: int) -> Estimate:
        """Weights, the key-value cache of all slots (allocated at load) and buffers."""
        options = msgspec.convert(spec.options, LlamaCppOptions)
        tokens = options.context * spec.concurrency
        try:
            metadata = read_metadata(Path(spec.source))
            cache = kv_bytes(metadata, tokens)
        except (OSError, NotGguf, KeyError):
            metadata = {}
            cache = 128 * 1024 * tokens  # as Llama 3.1 8B: 128 KiB a token
        head = 0 if options.head is None else head_bytes(metadata)
        resident = PROCESS_BYTES + source_bytes + cache + COMPUTE_BYTES + head
        return Estimate(idle=resident, load=resident, activation=48 << 20)

    @classmethod
    def check(cls, given: Mapping[str, Any], options: msgspec.Struct) -> None:
        """No look back beyond the context, and a grammar only where the owner lets clients bring one."""
        assert isinstance(options, LlamaCppOptions)
        for field in ("repeat_last_n", "dry_penalty_last_n"):
            if given.get(field, 0) > options.context:
                raise BadParameter(f"{field} must be at most {options.context}, the context", param=field)
        if "grammar" in given:
            if not options.grammar:
                message = (
                    "grammar is not taken here; send response_format, or have the option grammar set for the model"
                )
                raise BadParameter(message, param="grammar", code="unsupported_parameter")
            try:
                gbnf.check(given["grammar"])
            except gbnf.BadGrammar as bad:
                raise BadParameter(f"grammar {bad}", param="grammar") from None

    def load(self, spec: ModelSpec, device: Device) -> None:
        """Open the file and allocate the context."""
        try:
            import xllamacpp
        except ImportError as error:
            if "libgomp" in str(error):
                raise EngineError("llama.cpp needs the OpenMP library: apt-get install libgomp1") from None
            raise EngineError("xllamacpp is missing: pip install 'cohabit[llamacpp]'") from None
        options = msgspec.convert(spec.options, LlamaCppOptions)
        if not Path(spec.source).is_file():
            raise EngineError(f"there is no file {spec.source}")
        params = xllamacpp.CommonParams()
        params.model.path = spec.source
        params.n_ctx = options.context * spec.concurrency
        params.n_parallel = spec.concurrency
        params.n_batch = params.n_ubatch = BATCH
        params.n_gpu_layers = options.gpu_layers if device.kind == "cuda" else 0
        params.main_gpu = device.index
        for pool in (params.cpuparams, params.cpuparams_batch):
            pool.n_threads = options.threads
            pool.poll = 0  # spinning threads would take the cores that others were promised
        params.cache_ram_mib = 0  # its default grows to 8 GiB beyond the books
        params.warmup = False  # ours does it
        params.verbosity = -1  # its log would hold prompts
        params.ui = False
        params.api_keys = [secrets.token_hex(16)]  # it opens a port on loopback whether one wants it or not
        if options.chat_template is not None:
            params.chat_template = options.chat_template
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise EngineError(f"llama.cpp cannot load {Path(spec.source).name}: {error}") from None
        template = options.chat_template or read_metadata(Path(spec.source)).get("tokenizer.chat_template")
        self._asking = RequestTranslator(
            spec.name,
            choices=spec.concurrency,
            knows_tools="tools" in str(template),
            usable=self._known_usable,
        )
        self._grammars: dict[bytes, bool] = {}
        self._prompts = Prompts(options.context, _vocabulary(Path(spec.source)))
        self._calls: dict[Task, Callable[[Piece, Callable[[Piece | None], bool]], Any]] = {
            Task.CHAT: self._server.handle_chat_completions,
            Task.COMPLETE: self._server.handle_completions,
        }

    def warmup(self) -> None:
        """Touch weights and buffers with one token."""
        self._server.handle_completions({"prompt": "a", "max_tokens": 1, "cache_prompt": False})

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """Answer each; called from ``concurrency`` threads at once."""
        for request in batch:
            yield from self._answer(request, cancelled)

    def close(self) -> None:
        del self._server, self._calls, self._asking

    def _known_usable(self, grammar: str) -> bool:
        """As ``_usable``, which is asked once. Only hashes stay: grammars are long, and hold what clients sent."""
        digest = hashlib.sha256(grammar.encode()).digest()
        if digest not in self._grammars:
            if len(self._grammars) >= KNOWN_GRAMMARS:
                self._grammars.pop(next(iter(self._grammars)), None)
            self._grammars[digest] = self._usable(grammar)
        return self._grammars.get(digest, False)

    def _usable(self, grammar: str) -> bool:
        """llama.cpp answers as if there were no grammar where it cannot use one."""
        body = {"prompt": "a", "max_tokens": len(MARK) + 1, "temperature": 0, "grammar": trial(grammar)}
        return bool(self._server.handle_completions(body)["choices"][0]["text"].startswith(MARK))

    def _answer(self, request: EngineRequest, cancelled: Cancelled) -> Iterator[Output]:
        body = json.loads(request.body)
        streamed, sent = bool(body.get("stream")), 0
        try:
            stack = self._prompts.stack(body)
            asked, assembly = (self._asking.chat if request.task is Task.CHAT else self._asking.complete)(body)
        except BadItem as bad:
            yield bad.error(request.id)
            return
        for piece in self._pieces(request, asked, cancelled, stack):
            if isinstance(piece, Exception):
                yield refused(request.id, piece)
                return
            if "error" in piece:
                yield refused(request.id, piece["error"])
                return
            kept = assembly.add(piece)
            if streamed and kept is not None:
                yield Chunk(request.id, msgspec.json.encode(kept), tokens=assembly.tokens - sent)
                sent = assembly.tokens
        if streamed:
            if wants_usage(body):
                yield Chunk(request.id, msgspec.json.encode(assembly.usage_chunk()))
        elif not cancelled(request.id):
            yield Chunk(request.id, msgspec.json.encode(assembly.whole()), tokens=assembly.tokens)

    def _pieces(
        self, request: EngineRequest, body: Piece, cancelled: Cancelled, stack: int
    ) -> Iterator[Piece | Exception]:
        """What llama.cpp says, as it says it. Closing the iterator stops the generation.

        ``stack`` is bytes of the stack of the thread that tokenizes, 0 for as many as usual.
        """
        queue: SimpleQueue[Piece | Exception | None] = SimpleQueue()
        abandoned = threading.Event()

        def heard(piece: Piece | None) -> bool:
            # Must not raise: an exception in a callback vanishes. True stops the generation.
            if piece is not None:
                queue.put(piece)
            return abandoned.is_set() or cancelled(request.id)

        def generate() -> None:
            try:
                self._calls[request.task](body, heard)
            except Exception as error:  # the library raises plain ones for bad bodies
                queue.put(error)
            finally:
                queue.put(None)

        thread = threading.Thread(target=generate, name=f"generate {request.id}", daemon=True)
        with _stack_size:
            before = threading.stack_size(stack)  # it is of the process, and read where a thread begins
            try:
                thread.start()
            except RuntimeError:  # there is no room for its stack
                raise MemoryError from None
            finally:
                threading.stack_size(before)
        try:
            while (piece := queue.get()) is not None:
                yield piece
        finally:
            abandoned.set()
            thread.join()


def _vocabulary(path: Path) -> Vocabulary:
    try:
        return read_vocabulary(path)
    except (OSError, NotGguf):
        return Vocabulary()


def refused(request: int, why: Any) -> ItemError:
    """llama.cpp's refusal in our words. Its own may quote the prompt, so they are never passed on."""
    if isinstance(why, dict) and why.get("type") == "exceed_context_size_error":
        return ItemError(
            request,
            f"the prompt has {why.get('n_prompt_tokens')} tokens and the context takes {why.get('n_ctx')}; "
            "shorten the prompt or raise options.context",
            code="context_length_exceeded",
        )
    status = why.get("code", 500) if isinstance(why, dict) else 400
    if isinstance(status, int) and 400 <= status < 500:
        return ItemError(
            request,
            "the model cannot take this request; check the roles and contents of messages, tools, "
            "response_format and grammar",
        )
    return ItemError(request, "llama.cpp failed on this request", status=500, code="engine_error")
