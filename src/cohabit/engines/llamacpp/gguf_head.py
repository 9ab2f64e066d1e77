"""Writes a GGUF file anew with its output head in BF16: ``python -m cohabit.engines.llamacpp.gguf_head IN OUT``.

The head is multiplied once for every token of every sequence. llama.cpp's CPU build in the xllamacpp wheel is slow at
some quantized types of it where two or three sequences are at work at once, and not at BF16. Where the embedding of
tokens serves as the head, it is that. All else is copied as it is.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import sys
from pathlib import Path

HEAD, EMBEDDING = "output.weight", "token_embd.weight"


def rewrite(source: Path, target: Path) -> None:
    """Raises ValueError for what is no GGUF file or has no head that can be rewritten, OSError."""
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, quants

    bf16 = GGMLQuantizationType.BF16
    reader = GGUFReader(source)
    names = {tensor.name for tensor in reader.tensors}
    head = HEAD if HEAD in names else EMBEDDING
    if head not in names:
        raise ValueError(f"it has neither {HEAD} nor {EMBEDDING}")
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue  # the writer has its own
        kind = field.types[0]
        writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    for tensor in reader.tensors:
        if tensor.name == head:
            plain = quants.dequantize(tensor.data, tensor.tensor_type)
            writer.add_tensor(tensor.name, quants.quantize(plain, bf16), raw_dtype=bf16)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    """Exits with why it cannot, in one line."""
    source, target = map(Path, sys.argv[1:])
    try:
        rewrite(source, target)
    except ImportError:
        why = "gguf is missing: pip install 'cohabit[llamacpp]'"
    except (ValueError, KeyError, IndexError, NotImplementedError, OSError) as error:  # gguf's, of a broken file
        why = f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        return
    sys.stdout.write(f"{why}\n")
    raise SystemExit(1)


if __name__ == "__main__":
    main()
