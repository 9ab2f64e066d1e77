"""Memory that ran out, as the libraries that engines use say it."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from cohabit.worker.oom import lacked_memory


def raised_by_onnx_runtime(size: int) -> Exception:
    """What a model raises that makes so many numbers; a negative size is no shape at all."""
    node = helper.make_node("ConstantOfShape", ["shape"], ["out"])
    graph = helper.make_graph(
        [node],
        "fill",
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is what is looked at
        session.run(None, {"shape": np.array([size], np.int64)})
    return caught.value


def test_onnx_runtime_finds_no_room() -> None:
    error = raised_by_onnx_runtime(1 << 44)
    assert not isinstance(error, MemoryError)
    assert lacked_memory(error)


def test_onnx_runtime_fails_for_another_reason() -> None:
    assert not lacked_memory(raised_by_onnx_runtime(-1))


def test_python_and_torch() -> None:
    class OutOfMemoryError(RuntimeError):
        """Torch's has this name."""

    assert lacked_memory(MemoryError())
    assert lacked_memory(OutOfMemoryError("CUDA out of memory"))


def test_what_others_say_of_memory_is_not_heeded() -> None:
    assert not lacked_memory(ValueError("out of memory"))
