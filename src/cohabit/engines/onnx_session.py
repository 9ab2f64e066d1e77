"""ONNX Runtime the way a shared machine needs it: few threads that do not spin, memory given back after a run."""

from typing import TYPE_CHECKING, Any

from cohabit.protocol.engine import EngineError
from cohabit.protocol.spec import Device

if TYPE_CHECKING:
    import onnxruntime


def open_session(path: str, *, threads: int, device: Device) -> "onnxruntime.InferenceSession":
    """A model, on the card if that is where it is to be. Raises EngineError."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores that others were promised.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})]
    if device.kind == "cuda":
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise EngineError("this onnxruntime cannot use a card: pip install onnxruntime-gpu")
        cuda = {"device_id": device.index, "arena_extend_strategy": "kSameAsRequested"}
        providers.insert(0, ("CUDAExecutionProvider", cuda))
    return ort.InferenceSession(path, options, providers=providers)


def shrinking(device: Device) -> "onnxruntime.RunOptions":
    """For ``run``: the allocator gives back what the run took beyond what it had."""
    import onnxruntime as ort

    options = ort.RunOptions()
    arenas = "cpu:0" if device.kind == "cpu" else f"cpu:0;gpu:{device.index}"
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
    return options
