"""On a real card: what the driver tells of a process, and what running out of its memory is."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

MIB = 1 << 20
GIB = 1 << 30


def card_is_there() -> bool:
    """Whether CUDA's driver finds one, asked in a process of its own: this one is to stay without the driver."""
    asks = "import ctypes; raise SystemExit(ctypes.CDLL('libcuda.so.1').cuInit(0))"
    return subprocess.run([sys.executable, "-c", asks], capture_output=True, check=False).returncode == 0


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not card_is_there(), reason="there is no CUDA card here")]

OWN = """
from cohabit.engines.card_memory import Card
from cohabit.worker.meter import CardMeter
meter = CardMeter(0)
meter.begin()
card = Card(0)
context = meter.read()[1]
held = card.touched(1 << 30)
full = meter.read()[1]
del held
peak, left = meter.read()
print(context, full, peak, left)
"""
COPIES = """
import ctypes, gc, os
from cohabit.engines.card_memory import Card
card = Card(0)
content = os.urandom(1 << 24)
copy = card.pinned(bytearray(content))
held = card.filled(copy)
address = held.address
back = ctypes.create_string_buffer(len(content))
assert card._cuda.cuMemcpyDtoH_v2(back, address, ctypes.c_size_t(len(content))) == 0
kind = ctypes.c_uint()
start = ctypes.addressof(copy.start)
HOST, MEMORY_TYPE = 1, 2  # CU_MEMORYTYPE_HOST, CU_POINTER_ATTRIBUTE_MEMORY_TYPE
asked = lambda: card._cuda.cuPointerGetAttribute(ctypes.byref(kind), MEMORY_TYPE, ctypes.c_uint64(start))
known = asked() == 0 and kind.value == HOST
del copy
print(int(back.raw == content), int(known), int(asked() == 0))
"""
TORCH = """
import torch
from cohabit.worker.meter import CardMeter
from cohabit.worker.meter import lacked_memory
meter = CardMeter(0)
meter.begin()
try:
    torch.empty(1 << 42, device="cuda:0", dtype=torch.uint8)
except Exception as error:
    assert not isinstance(error, MemoryError)
    assert lacked_memory(error), type(error)
else:
    raise SystemExit("4 TiB fit")
a = torch.ones(1 << 30, device="cuda:0", dtype=torch.uint8)
full = meter.read()[1]
del a
kept = meter.read()[1]
torch.cuda.empty_cache()
print(full, kept, meter.read()[1])
"""


def numbers(script: str) -> list[int]:
    """What a script prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_a_process_is_told_its_context_and_what_it_took() -> None:
    context, full, peak, left = numbers(OWN)
    assert 100 * MIB < context < GIB
    assert abs(full - context - GIB) <= 8 * MIB
    assert peak == full
    assert abs(left - context) <= 8 * MIB


def test_a_copy_is_pinned_and_comes_back_whole() -> None:
    assert numbers(COPIES) == [1, 1, 0], "equal; known to the driver as host memory; no longer so once it is gone"


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_torch_runs_out_and_gives_back() -> None:
    full, kept, trimmed = numbers(TORCH)
    assert kept == full, "its allocator keeps what was freed"
    assert full - trimmed >= GIB - 8 * MIB
