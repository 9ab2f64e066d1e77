"""Writes a GGUF file of random weights: ``python benchmarks/gpu/weights.py SMALL.gguf TARGET.gguf``.

In the shape of a Llama of 1.6 billion parameters in F16, 3.2 GB, with the words of the small file. It says nothing,
and takes the memory and the time of a real one.
"""

import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter

LAYERS, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, CONTEXT = 32, 2048, 5632, 16, 8, 8192


def write(small: Path, target: Path) -> None:
    """Raises what gguf raises for a file that is none."""
    words = GGUFReader(small)
    writer = GGUFWriter(target, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    for key, field in words.fields.items():
        if key.startswith("tokenizer."):
            kind = field.types[0]
            writer.add_key_value(
                key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None
            )
    vocabulary = len(words.fields["tokenizer.ggml.tokens"].data)
    writer.add_vocab_size(vocabulary)
    # The same few million numbers over and over: drawing billions takes longer than all else.
    drawn = np.random.default_rng(0).standard_normal(1 << 24, np.float32)
    kv = WIDTH // HEADS * KV_HEADS

    def matrix(name: str, rows: int, columns: int) -> None:
        numbers = np.resize(drawn / np.sqrt(columns), rows * columns).astype(np.float16)
        writer.add_tensor(name, numbers.reshape(rows, columns))

    matrix("token_embd.weight", vocabulary, WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(WIDTH, np.float32))
        matrix(f"blk.{layer}.attn_q.weight", WIDTH, WIDTH)
        matrix(f"blk.{layer}.attn_k.weight", kv, WIDTH)
        matrix(f"blk.{layer}.attn_v.weight", kv, WIDTH)
        matrix(f"blk.{layer}.attn_output.weight", WIDTH, WIDTH)
        matrix(f"blk.{layer}.ffn_gate.weight", FEED_FORWARD, WIDTH)
        matrix(f"blk.{layer}.ffn_up.weight", FEED_FORWARD, WIDTH)
        matrix(f"blk.{layer}.ffn_down.weight", WIDTH, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
