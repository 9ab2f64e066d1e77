"""Media that was made to hurt whoever opens it: small files that promise, or cost, very much."""

import io
import struct
import zlib

from PIL import Image

from samples import chunk

_CRC8, _CRC16 = (8, 0x07, 0xFF), (16, 0x8005, 0xFFFF)


def _crc(data: bytes, bits: int, polynomial: int, mask: int) -> int:
    register = 0
    for byte in data:
        register ^= byte << (bits - 8)
        for _ in range(8):
            register = (register << 1 ^ (polynomial if register >> (bits - 1) & 1 else 0)) & mask
    return register


def _number(value: int) -> bytes:
    """A frame's number as FLAC has it, which is as UTF-8 has characters."""
    if value < 0x80:
        return bytes([value])
    if value < 0x800:
        return bytes([0xC0 | value >> 6, 0x80 | value & 63])
    return bytes([0xE0 | value >> 12, 0x80 | value >> 6 & 63, 0x80 | value & 63])


def flac(rate: int, frames: int, block: int = 65_535) -> bytes:
    """Silence: ``frames`` of ``block`` samples each, in 14 bytes. Its header does not say how many there are."""
    info = struct.pack(">HH", block, block) + bytes(6) + (rate << 44 | 15 << 36).to_bytes(8, "big") + bytes(16)
    out = [b"fLaC\x80" + len(info).to_bytes(3, "big") + info]
    for number in range(frames):
        head = b"\xff\xf8\x70\x08" + _number(number) + struct.pack(">H", block - 1)
        frame = head + bytes([_crc(head, *_CRC8)]) + bytes(3)
        out.append(frame + struct.pack(">H", _crc(frame, *_CRC16)))
    return b"".join(out)


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def _full(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *parts)


def mp4(samples: int, tracks: int = 1) -> bytes:
    """An index of so many samples a track in some 300 bytes, which libav writes out in memory."""
    made = []
    for number in range(1, tracks + 1):
        entry = _box(b"mp4a", bytes(7), b"\1", bytes(8), struct.pack(">HHHHI", 2, 16, 0, 0, 48_000 << 16))
        table = _box(
            b"stbl",
            _full(b"stsd", struct.pack(">I", 1), entry),
            _full(b"stts", struct.pack(">III", 1, samples, 1024)),
            _full(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
            _full(b"stsz", struct.pack(">II", 1, samples)),
            _full(b"stco", struct.pack(">II", 1, 40)),
        )
        length = min(samples * 1024, 2**32 - 1)
        media = _box(
            b"mdia",
            _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 48_000, length, 0, 0)),
            _full(b"hdlr", bytes(4), b"soun", bytes(12), b"x\0"),
            _box(b"minf", _full(b"smhd", bytes(4)), table),
        )
        head = _full(b"tkhd", struct.pack(">IIIII", 0, 0, number, 0, 0), bytes(60), flags=3)
        made.append(_box(b"trak", head, media))
    film = _full(b"mvhd", struct.pack(">IIIIIH", 0, 0, 48_000, 1000, 0x10000, 0x100), bytes(70))
    return _box(b"ftyp", b"M4A \0\0\0\0M4A mp42") + _box(b"mdat", bytes(64)) + _box(b"moov", film, *made)


def _element(name: bytes, data: bytes) -> bytes:
    return name + (len(data) | 1 << 56).to_bytes(8, "big") + data


def mkv(chapters: int, sound: bytes = bytes(3200)) -> bytes:
    """For each chapter libav looks through all those before it."""
    head = _element(b"\x1a\x45\xdf\xa3", _element(b"\x42\x82", b"matroska"))
    info = _element(b"\x15\x49\xa9\x66", _element(b"\x2a\xd7\xb1", (1_000_000).to_bytes(4, "big")))
    form = _element(b"\xb5", struct.pack(">f", 16_000.0)) + _element(b"\x9f", b"\1") + _element(b"\x62\x64", b"\x10")
    entry = _element(b"\xd7", b"\1") + _element(b"\x73\xc5", b"\1") + _element(b"\x83", b"\2")
    track = _element(b"\xae", entry + _element(b"\x86", b"A_PCM/INT/LIT") + _element(b"\xe1", form))
    atoms = b"".join(
        b"\xb6\x8c\x73\xc4\x83%b\x91\x84%b" % ((chapters - number).to_bytes(3, "big"), number.to_bytes(4, "big"))
        for number in range(chapters)
    )
    listed = _element(b"\x10\x43\xa7\x70", _element(b"\x45\xb9", atoms))
    block = _element(b"\xa3", b"\x81\0\0\x80" + sound) if sound else b""
    cluster = _element(b"\x1f\x43\xb6\x75", _element(b"\xe7", b"\0") + block)
    segment = info + _element(b"\x16\x54\xae\x6b", track) + listed + cluster
    return head + b"\x18\x53\x80\x67\x01" + b"\xff" * 7 + segment


def scans(side: int, count: int) -> bytes:
    """A progressive JPEG that goes over its picture again and again."""
    file = io.BytesIO()
    Image.new("RGB", (side, side), (120, 130, 140)).save(file, "JPEG", progressive=True, quality=30)
    head, *parts = file.getvalue().split(b"\xff\xda")
    smallest = min(parts[1:-1], key=len)
    more = [smallest] * (count - len(parts))
    return b"\xff\xda".join([head, *parts[:-1], *more, parts[-1]])


def png_chunks(count: int) -> bytes:
    """A tiny PNG with empty chunks that mean nothing."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(9 * 8)))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"aaAa", b"") * count + data + chunk(b"IEND", b"")
