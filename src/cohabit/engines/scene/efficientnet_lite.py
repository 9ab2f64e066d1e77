"""EfficientNet-Lite0's weights as an ONNX model: ``python -m cohabit.engines.scene.efficientnet_lite SOURCE TARGET``.

SOURCE is the ``.pth`` of github.com/RangiLyu/EfficientNet-Lite, read without running it (``torch_file``). The
architecture is that of Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"
(ICML 2019), in TensorFlow's Lite variant: no squeeze-and-excitation, ReLU6, fixed stem and head. Batch normalisation
is folded into the convolutions. Input ``x`` (1, 3, 224, 224) float32, output ``probabilities`` (1, 1000).
"""

import argparse
import math
import resource
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from cohabit.engines.scene.torch_file import RefusedFile, read_tensors

SIZE = 224  # pixels of each side
_EPSILON = 1e-3  # of the batch normalisations, as trained
_MEMORY = 2 << 30  # bytes this may use: a file that makes it take more is not what it says

Tensors = dict[str, "np.ndarray[Any, Any]"]


class _Stage(NamedTuple):
    """Several blocks of one kind; all but the first keep size and channels."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


class _Value(NamedTuple):
    """A value in the graph: its name, pixels of a side, channels."""

    name: str
    size: int
    channels: int


class _Graph:
    """Nodes and constants as they are added."""

    def __init__(self, tensors: Tensors) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._tensors = tensors
        for bound in (0, 6):
            self.constant(f"bound_{bound}", np.float32(bound))

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def weight(self, name: str, *shape: int) -> "np.ndarray[Any, Any]":
        found = self._tensors.get(name)
        if found is None or found.shape != shape:
            raise RefusedFile(f"it is not EfficientNet-Lite0: {name} should be there with the shape {shape}")
        return found

    def convolution(
        self, value: _Value, name: str, norm: str, *, to: int, kernel: int, stride: int = 1, deep: bool = False
    ) -> _Value:
        """A convolution with its normalisation folded in; ``deep``: each channel by itself."""
        gain = self.weight(f"{norm}.weight", to) / np.sqrt(self.weight(f"{norm}.running_var", to) + _EPSILON)
        weight = self.weight(f"{name}.weight", to, 1 if deep else value.channels, kernel, kernel)
        bias = self.weight(f"{norm}.bias", to) - self.weight(f"{norm}.running_mean", to) * gain
        size = math.ceil(value.size / stride)
        padding = max((size - 1) * stride + kernel - value.size, 0)  # TensorFlow's "same": the odd pixel at the end
        output = self.node(
            "Conv",
            value.name,
            self.constant(f"{name}.weight", weight * gain[:, None, None, None]),
            self.constant(f"{name}.bias", bias),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding // 2] * 2 + [padding - padding // 2] * 2,
            group=value.channels if deep else 1,
        )
        return _Value(output, size, to)

    def clipped(self, value: _Value) -> _Value:
        return value._replace(name=self.node("Clip", value.name, "bound_0", "bound_6"))

    def block(self, value: _Value, name: str, stage: _Stage, *, first: bool) -> _Value:
        """Expand, filter each channel, project; what comes in is added where nothing changed size."""
        stride = stage.stride if first else 1
        wide = value
        if stage.expand != 1:
            to = value.channels * stage.expand
            wide = self.clipped(self.convolution(value, f"{name}._expand_conv", f"{name}._bn0", to=to, kernel=1))
        deep = self.convolution(
            *(wide, f"{name}._depthwise_conv", f"{name}._bn1"),
            to=wide.channels,
            kernel=stage.kernel,
            stride=stride,
            deep=True,
        )
        output = self.convolution(
            self.clipped(deep), f"{name}._project_conv", f"{name}._bn2", to=stage.channels, kernel=1
        )
        if stride == 1 and value.channels == stage.channels:
            return output._replace(name=self.node("Add", value.name, output.name))
        return output


def build(tensors: Tensors) -> onnx.ModelProto:
    """The model. Raises RefusedFile for weights of anything else."""
    graph = _Graph(tensors)
    value = graph.clipped(graph.convolution(_Value("x", SIZE, 3), "_conv_stem", "_bn0", to=32, kernel=3, stride=2))
    number = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            value = graph.block(value, f"_blocks.{number}", stage, first=repeat == 0)
            number += 1
    value = graph.clipped(graph.convolution(value, "_conv_head", "_bn1", to=1280, kernel=1))
    pooled = graph.node("Flatten", graph.node("GlobalAveragePool", value.name))
    weight = graph.constant("_fc.weight", graph.weight("_fc.weight", 1000, 1280))
    bias = graph.constant("_fc.bias", graph.weight("_fc.bias", 1000))
    scores = graph.node("Gemm", pooled, weight, bias, transB=1)
    graph.nodes.append(helper.make_node("Softmax", [scores], ["probabilities"], axis=1))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "efficientnet_lite0",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 1000])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def main() -> int:
    """Convert one file; what is wrong with it is one line on standard output."""
    parser = argparse.ArgumentParser(prog="cohabit.engines.scene.efficientnet_lite", description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    try:
        onnx.save(build(read_tensors(arguments.source)), arguments.target)
    except RefusedFile as error:
        print(error)  # noqa: T201 - read by whoever started this
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
