"""A file of tensors is read; anything else in a pickle is refused before it is looked up."""

import io
import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cohabit.engines.scene.torch_file import MAGIC, VERSION, RefusedFile, read_tensors


class Storage:
    """Pickles as a persistent id."""

    def __init__(self, key: str, values: "np.ndarray[Any, Any]", kind: str = "FloatStorage") -> None:
        self.key, self.values, self.kind = key, values, kind

    @property
    def pid(self) -> bytes:
        """Opcodes that build the id and look it up."""
        return (
            b"(" + text("storage") + f"ctorch\n{self.kind}\n".encode() + text(self.key) + text("cpu")
            + number(len(self.values)) + b"NtQ"
        )  # fmt: skip


def text(value: str) -> bytes:
    """Opcodes of a string."""
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """Opcodes of an integer."""
    return f"I{value}\n".encode()


def sizes(values: tuple[int, ...]) -> bytes:
    """Opcodes of a tuple."""
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(storage: Storage, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """Opcodes that rebuild a tensor."""
    arguments = storage.pid + number(offset) + sizes(shape) + sizes(strides)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"I00\nccollections\nOrderedDict\n)RtR"


def state(*entries: tuple[str, bytes]) -> bytes:
    """Opcodes of an ordered dictionary."""
    items = b"".join(text(name) + value for name, value in entries)
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def saved(path: Path, pickled: bytes, *storages: Storage, keys: Any = None, cut: int = 0) -> Path:
    """A file as torch's legacy format has it."""
    data = b"".join(pickle.dumps(part, 2) for part in (MAGIC, VERSION, {"little_endian": True}))
    data += pickled + pickle.dumps([one.key for one in storages] if keys is None else keys, 2)
    for storage in storages:
        data += struct.pack("<q", len(storage.values)) + storage.values.tobytes()
    path.write_bytes(data[: len(data) - cut])
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


FLOATS = Storage("0", np.arange(12, dtype="<f4"))


def test_tensors_come_out_as_they_went_in(path: Path) -> None:
    longs = Storage("1", np.array([7, 8], "<i8"), "LongStorage")
    pickled = state(
        ("whole", tensor(FLOATS, (3, 4), (4, 1))),
        ("part", tensor(FLOATS, (2, 2), (4, 1), offset=5)),
        ("turned", tensor(FLOATS, (4, 3), (1, 4))),
        ("scalar", tensor(longs, (), (), offset=1)),
        ("none", tensor(FLOATS, (0, 4), (4, 1))),
    )
    found = read_tensors(saved(path, pickled, FLOATS, longs))
    whole = np.arange(12, dtype="f4").reshape(3, 4)
    assert found["whole"].tolist() == whole.tolist()
    assert found["part"].tolist() == [[5, 6], [9, 10]]
    assert found["turned"].tolist() == whole.T.tolist()
    assert found["scalar"] == 8
    assert found["none"].shape == (0, 4)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("HalfStorage", "<f2"),
        ("DoubleStorage", "<f8"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
        ("IntStorage", "<i4"),
    ],
)
def test_every_kind_of_element(kind: str, dtype: str, path: Path) -> None:
    storage = Storage("0", np.ones(3, dtype), kind)
    assert read_tensors(saved(path, state(("a", tensor(storage, (3,), (1,)))), storage))["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(X\x05\x00\x00\x00false" + b"tR.",
        b"cposix\nsystem\n.",
        b"cbuiltins\neval\n.",
        b"cbuiltins\ngetattr\n.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93.",  # by way of the stack
        b"\x80\x04\x8c\x05torch\x8c\x12FloatStorage.__init__\x93.",  # a dotted name would walk along attributes
        b"ctorch\nload\n.",
        b"ctorch.serialization\nFloatStorage\n.",
        b"ccollections\nnamedtuple\n.",
        b"(Icos\nsystem\n.",
        b"(ios\nsystem\n.",  # INST
        b"\x82\x01.",  # an extension code
    ],
)
def test_nothing_else_is_resolved(pickled: bytes, path: Path) -> None:
    with pytest.raises(RefusedFile):
        read_tensors(saved(path, pickled))


def test_a_malicious_pickle_does_nothing(path: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {tmp_path}/owned",)

    for data in (pickle.dumps(Evil()), pickle.dumps(OrderedDict(a=Evil()))):
        path.write_bytes(data)
        with pytest.raises(RefusedFile):
            read_tensors(path)
        with pytest.raises(RefusedFile, match=r"it asks for \w+\.system, which no file of plain tensors needs"):
            read_tensors(saved(path, data))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (tensor(FLOATS, (13,), (1,)), "reaches beyond its storage"),
        (tensor(FLOATS, (3, 4), (8, 1)), "reaches beyond its storage"),
        (tensor(FLOATS, (2,), (1,), offset=11), "reaches beyond its storage"),
        (tensor(FLOATS, (1 << 40,), (0,)), "reaches beyond its storage"),
        (tensor(FLOATS, (2,), (-1,), offset=5), "sizes that are none"),
        (tensor(FLOATS, (2,), (1,), offset=-1), "sizes that are none"),
        (tensor(FLOATS, (2, 2), (1,)), "not described as torch does"),
    ],
)
def test_a_tensor_that_lies(entry: bytes, why: str, path: Path) -> None:
    with pytest.raises(RefusedFile, match=why):
        read_tensors(saved(path, state(("a", entry)), FLOATS))


def test_a_storage_that_lies(path: Path) -> None:
    good = state(("a", tensor(FLOATS, (3,), (1,))))
    with pytest.raises(RefusedFile, match="has not the size it says"):
        read_tensors(saved(path, good, FLOATS, cut=1))
    with pytest.raises(RefusedFile, match="has not the size it says"):
        read_tensors(saved(path, good, FLOATS, cut=50))
    with pytest.raises(RefusedFile, match="not the ones its tensors name"):
        read_tensors(saved(path, good, FLOATS, keys=["0", "1"]))
    with pytest.raises(RefusedFile, match="not the ones its tensors name"):
        read_tensors(saved(path, good, keys=[]))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04 and so on", "newer zip format; convert it to safetensors"),
        (pickle.dumps(1) * 4, "not a file that torch saved"),
        (pickle.dumps(MAGIC, 2) + pickle.dumps(VERSION, 2) + b"junk", "damaged"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".", r"damaged|beyond all reason"),  # an array of an exabyte
    ],
)
def test_what_is_no_such_file(data: bytes, why: str, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(RefusedFile, match=why):
        read_tensors(path)


@pytest.mark.parametrize("pickled", [pickle.dumps([1, 2], 2), pickle.dumps("a", 2), state(("a", number(7)))])
def test_what_is_no_state(pickled: bytes, path: Path) -> None:
    with pytest.raises(RefusedFile, match=r"not a state_dict|something else than tensors"):
        read_tensors(saved(path, pickled))


def test_a_tensor_without_a_name(path: Path) -> None:
    pickled = b"\x80\x02ccollections\nOrderedDict\n)R(" + number(1) + tensor(FLOATS, (3,), (1,)) + b"u."
    with pytest.raises(RefusedFile, match="a tensor has no name"):
        read_tensors(saved(path, pickled, FLOATS))


def test_a_state_that_was_given_attributes_is_still_only_data(path: Path) -> None:
    built = state(("a", tensor(FLOATS, (3,), (1,))))[:-1] + b"}" + text("items") + text("x") + b"sb."
    with pytest.raises(RefusedFile):
        read_tensors(saved(path, built, FLOATS))


def test_random_damage_is_refused_or_changes_numbers_only(path: Path) -> None:
    whole = saved(path, state(("a", tensor(FLOATS, (3, 4), (4, 1)))), FLOATS).read_bytes()
    for place in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                found = read_tensors(path)
            except RefusedFile:
                continue
            assert all(isinstance(one, np.ndarray) for one in found.values())


@pytest.mark.process
def test_the_reader_never_imports_torch() -> None:
    code = "import sys, cohabit.engines.scene.torch_file; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_file_written_by_pickle_itself_is_what_the_tests_think_it_is(path: Path) -> None:
    buffer = io.BytesIO()
    pickle.Pickler(buffer, 2).dump(OrderedDict())
    assert read_tensors(saved(path, buffer.getvalue())) == {}
