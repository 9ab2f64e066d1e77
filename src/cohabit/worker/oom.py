"""Which errors of engines' libraries mean that memory ran out: only some of them raise MemoryError."""

_TORCH = "OutOfMemoryError"  # torch.OutOfMemoryError is a RuntimeError; its class is known without importing torch
_ONNX_RUNTIME = "onnxruntime."
_ONNX_RUNTIME_SAYS = (
    "Failed to allocate memory",  # its arena, on the host and on a card
    "out of memory",  # cudaErrorMemoryAllocation
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def lacked_memory(error: BaseException) -> bool:
    """Whether it says so. Only ONNX Runtime's text is looked at: it has no class of its own for this."""
    if isinstance(error, MemoryError) or type(error).__name__ == _TORCH:
        return True
    return type(error).__module__.startswith(_ONNX_RUNTIME) and any(said in str(error) for said in _ONNX_RUNTIME_SAYS)
