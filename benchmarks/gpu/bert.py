"""Writes an ONNX file of random weights in the shape of BERT-large: ``python benchmarks/gpu/bert.py TARGET.onnx``.

335 million parameters in F16, 670 MB, with the inputs and words of any BERT, so that a real tokenizer serves. What it
says means nothing; it takes the memory and the time of a real one.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS, WIDTH, FEED_FORWARD, HEADS, VOCABULARY, CONTEXT = 24, 1024, 4096, 16, 30522, 512
OPSET = 20  # the first with Gelu


class _Graph:
    """Nodes and weights as they are added; every method gives the name of what comes out."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.drawn = np.random.default_rng(0).standard_normal(1 << 22, np.float32)

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, array: Any) -> str:
        name = f"weight_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def matrix(self, rows: int, columns: int) -> str:
        drawn = np.roll(self.drawn, len(self.weights))  # ONNX Runtime keeps equal weights once
        numbers = np.resize(drawn / np.sqrt(rows), rows * columns)
        return self.constant(numbers.astype(np.float16).reshape(rows, columns))

    def linear(self, x: str, rows: int, columns: int) -> str:
        bias = self.constant(np.zeros(columns, np.float16))
        return self.node("Add", self.node("MatMul", x, self.matrix(rows, columns)), bias)

    def norm(self, x: str) -> str:
        scale, bias = self.constant(np.ones(WIDTH, np.float16)), self.constant(np.zeros(WIDTH, np.float16))
        return self.node("LayerNormalization", x, scale, bias, axis=-1)

    def heads(self, x: str, perm: list[int]) -> str:
        shape = self.constant(np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
        return self.node("Transpose", self.node("Reshape", x, shape), perm=perm)


def write(target: Path) -> None:
    """The whole model."""
    graph = _Graph()
    length = graph.node("Shape", "input_ids", start=1, end=2)
    scalar = graph.node("Squeeze", length)
    places = graph.node("Range", graph.constant(np.int64(0)), scalar, graph.constant(np.int64(1)))
    words = graph.node("Gather", graph.matrix(VOCABULARY, WIDTH), "input_ids")
    x = graph.norm(graph.node("Add", words, graph.node("Gather", graph.matrix(CONTEXT, WIDTH), places)))
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT16)
    away = graph.node("Sub", mask, graph.constant(np.float16(1)))
    away = graph.node("Mul", away, graph.constant(np.float16(10000)))  # nothing for a word, much less for padding
    away = graph.node("Unsqueeze", away, graph.constant(np.array([1, 2], np.int64)))
    for _ in range(LAYERS):
        query = graph.heads(graph.linear(x, WIDTH, WIDTH), [0, 2, 1, 3])
        key = graph.heads(graph.linear(x, WIDTH, WIDTH), [0, 2, 3, 1])
        value = graph.heads(graph.linear(x, WIDTH, WIDTH), [0, 2, 1, 3])
        scores = graph.node("MatMul", query, key)
        scores = graph.node("Mul", scores, graph.constant(np.float16((WIDTH // HEADS) ** -0.5)))
        weights = graph.node("Softmax", graph.node("Add", scores, away), axis=-1)
        seen = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
        seen = graph.node("Reshape", seen, graph.constant(np.array([0, 0, WIDTH], np.int64)))
        x = graph.norm(graph.node("Add", x, graph.linear(seen, WIDTH, WIDTH)))
        inner = graph.node("Gelu", graph.linear(x, WIDTH, FEED_FORWARD))
        x = graph.norm(graph.node("Add", x, graph.linear(inner, FEED_FORWARD, WIDTH)))
    graph.nodes.append(helper.make_node("Cast", [x], ["hidden"], to=TensorProto.FLOAT))
    shape = ["texts", "tokens"]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name in ("input_ids", "attention_mask")
    ]
    output = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [*shape, WIDTH])
    made = helper.make_graph(graph.nodes, "bert", inputs, [output], graph.weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), target)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
