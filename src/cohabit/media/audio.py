"""Sound from outside, in two steps.

``repacked`` opens what a client sent and puts the first sound of it into a container of our own making (NUT, which
holds every codec). It meets ffmpeg's demuxers, so it runs in an inspector only, within limits of memory and time.

``frames`` decodes what ``repacked`` has made, and ``mono`` mixes it down. An inspector does so once with the whole,
to see that it can be done, and a worker once more, to hear it: with the same code, so that both come to the same end.

ffmpeg also reads formats that name other files and addresses (playlists, concatenations); only containers that
hold their sound themselves are taken.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cohabit.media import Unreadable

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream
    from av.container import InputContainer, OutputContainer

_CONTAINERS = "wav,w64,aiff,caf,flac,mp3,aac,ogg,amr,matroska,webm,mov,mp4,m4a,3gp"
TAKEN = "wav, flac, mp3, ogg or opus, m4a, aac or webm"
MAX_SECONDS = 4 * 3600  # silence packs so well that a small file can hold months
LOWEST_RATE, HIGHEST_RATE = 4_000, 384_000  # Hz; of a frame at 1 Hz each sample would become 16,000
MAX_CHANNELS = 64
_MAX_SAMPLES = 1 << 20  # of all channels in one frame; FLAC may have 65,535 in each of 8

# Packets of these are copied: NUT brings them back as they were. Others (ADPCM, ALAC, AMR, AC-3) become FLAC.
_COPIED = frozenset({"aac", "flac", "mp2", "mp2float", "mp3", "mp3float", "opus", "libopus", "vorbis"})
_ENCODED_RATE = 16_000  # Hz of those others: what speech models hear
_PACKET_MS = 20  # between two packets, for the muxer, which wants their times to ascend; nobody reads them

Progress = Callable[[float], object]
"""Told now and then how many seconds of sound have been decoded."""


def repacked(data: bytes, progress: Progress) -> bytes:
    """The first sound of an upload as a NUT file with one stream. Raises Unreadable, MemoryError.

    It ends where the upload cannot be read any further. Nothing is said yet of whether it can be decoded.
    """
    import av

    made = io.BytesIO()
    with _opened(data) as source, av.open(made, "w", format="nut") as target:
        _look(source)
        stream = source.streams.audio[0]
        name = stream.codec_context.name
        copied = name in _COPIED or name.startswith("pcm_")
        if not (_copy(source, stream, target) if copied else _encode(source, stream, target, progress)):
            raise _empty()
    return made.getvalue()


def check(data: bytes, progress: Progress) -> None:
    """Decode all that ``repacked`` has made. Raises Unreadable, MemoryError."""
    seconds, kind = 0.0, None
    for frame in frames(data):
        if kind != (kind := _kind(frame)):
            for _ in mono([frame], _ENCODED_RATE):
                pass  # whether it can be mixed down depends on its kind alone
        seconds += frame.samples / frame.sample_rate
        if seconds > MAX_SECONDS:
            raise _too_long()
        progress(seconds)
    if not seconds:
        raise _empty()


def frames(data: bytes) -> "Iterator[AudioFrame]":
    """The frames of what ``repacked`` has made, as far as they go, each of bounded size.

    A damaged packet costs its own sound only, as in players; a frame beyond the bounds is the end.
    """
    import av

    try:
        container = av.open(io.BytesIO(data), "r", format="nut")
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError):
        return  # what its header says of the sound cannot be
    with container:
        for frame in _decoded(container, container.streams.audio[0]):
            channels = len(frame.layout.channels)
            if not (
                LOWEST_RATE <= frame.sample_rate <= HIGHEST_RATE
                and channels <= MAX_CHANNELS
                and frame.samples * channels <= _MAX_SAMPLES
            ):
                return
            yield frame


def mono(
    source: "Iterable[AudioFrame]", rate: int, *, form: str = "flt", frame_size: int | None = None
) -> "Iterator[AudioFrame]":
    """Mixed down to one channel at ``rate`` Hz, in frames of ``frame_size`` samples. Raises Unreadable.

    The kind of the frames may change on the way, as in two files that were joined.
    """
    kind, mixer = None, None
    for frame in source:
        if kind != (kind := _kind(frame)):
            if mixer is not None:
                yield from mixer.resample(None)
            mixer = _Mixer(frame, rate, form, frame_size)
        assert mixer is not None
        frame.pts = None  # gaps in a damaged file would make the resampler refuse
        yield from mixer.resample(frame)
    if mixer is not None:
        yield from mixer.resample(None)


class _Mixer:
    """For frames of one kind. More than a few channels have no order that is known; then the first is heard."""

    def __init__(self, frame: "AudioFrame", rate: int, form: str, frame_size: int | None) -> None:
        import av

        self._resampler = av.AudioResampler(format=form, layout="mono", rate=rate, frame_size=frame_size)
        self._first: Any = None
        try:  # it is configured by its first frame; samples that are lost to this one do not matter
            av.AudioResampler(format=form, layout="mono", rate=rate).resample(frame)
        except av.FFmpegError:
            self._first = _first_channel(frame)

    def resample(self, frame: "AudioFrame | None") -> "list[AudioFrame]":
        if frame is None or self._first is None:
            return self._resampler.resample(frame)
        self._first.push(frame)
        return self._resampler.resample(self._first.pull())


def _first_channel(frame: "AudioFrame") -> Any:
    """A filter graph that takes frames of this kind and gives their first channel."""
    import av

    graph = av.filter.Graph()
    rate = frame.sample_rate
    try:
        chain = (
            graph.add_abuffer(
                sample_rate=rate, format=frame.format.name, layout=frame.layout.name, time_base=Fraction(1, rate)
            ),
            graph.add("pan", "mono|c0=c0"),
            graph.add("abuffersink"),
        )
        for before, after in pairwise(chain):
            before.link_to(after)
        graph.configure()
    except (av.FFmpegError, ValueError):
        raise Unreadable("has channels that cannot be mixed down; send it with one or two") from None
    return graph


def _kind(frame: "AudioFrame") -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _opened(data: bytes) -> "InputContainer":
    """Of a kind that is taken; close it. Raises Unreadable, MemoryError."""
    import av

    # Without it a title that is not UTF-8 would be an error; PyAV 19 has neither the option nor the error.
    lenient: Any = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
    try:
        container: InputContainer = av.open(
            io.BytesIO(data),
            "r",
            options={"format_whitelist": _CONTAINERS, "protocol_whitelist": ""},
            **lenient,
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError):
        raise _unknown() from None
    return container


def _look(container: "InputContainer") -> None:
    """By its headers alone. Raises Unreadable unless it has sound and no moving pictures."""
    import av

    covers = av.stream.Disposition.attached_pic | av.stream.Disposition.still_image
    if any(not stream.disposition & covers for stream in container.streams.video):
        raise Unreadable(f"is a video; send its sound alone, as {TAKEN}")
    if not container.streams.audio:
        raise Unreadable(f"holds no sound; send {TAKEN}")
    if (container.duration or 0) > MAX_SECONDS * av.time_base:
        raise _too_long()
    codec = container.streams.audio[0].codec_context
    if codec is None:  # ffmpeg knows no more than the name of its codec
        raise _unknown()
    lowest = LOWEST_RATE if codec.sample_rate else 0
    if not (1 <= codec.channels <= MAX_CHANNELS and lowest <= codec.sample_rate <= HIGHEST_RATE):
        raise _empty()  # a muxer crashes over a header like this; frames may still say something else


def _copy(source: "InputContainer", stream: "AudioStream", target: "OutputContainer") -> int:
    """Packets as they are, up to where they cannot be read any further; returns how many."""
    import av

    count = 0
    try:
        copy = target.add_stream_from_template(stream)
        for packet in _packets(source, stream):
            if packet.size:
                packet.pts = packet.dts = count * _PACKET_MS
                packet.time_base = Fraction(1, 1000)
                packet.stream = copy
                target.mux(packet)
                count += 1
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError):  # its header makes no sense, so that nothing could be written
        raise _empty() from None
    return count


def _encode(source: "InputContainer", stream: "AudioStream", target: "OutputContainer", progress: Progress) -> int:
    """Decoded, mixed down and without loss from there; returns the samples."""
    flac = target.add_stream("flac", rate=_ENCODED_RATE)
    flac.layout = "mono"
    flac.format = "s16"
    flac.codec_context.open()
    count = 0
    mixed = mono(_decoded(source, stream), _ENCODED_RATE, form="s16", frame_size=flac.codec_context.frame_size)
    for frame in mixed:
        if count > MAX_SECONDS * _ENCODED_RATE:
            raise _too_long()
        frame.pts = count
        frame.time_base = Fraction(1, _ENCODED_RATE)
        count += frame.samples
        target.mux(flac.encode(frame))
        progress(count / _ENCODED_RATE)
    if count:
        target.mux(flac.encode(None))
    return count


def _decoded(container: "InputContainer", stream: "AudioStream") -> "Iterator[AudioFrame]":
    import av

    for packet in _packets(container, stream):
        try:
            decoded = packet.decode()
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            continue
        yield from decoded


def _packets(container: "InputContainer", stream: "AudioStream") -> Iterator[Any]:
    """As far as they can be read; an empty one at the end makes the decoder give what it has kept."""
    import av

    try:
        yield from container.demux(stream)
    except MemoryError:
        raise
    except av.FFmpegError:
        return  # a file that breaks off, or a part of another kind that was joined to it


def _unknown() -> Unreadable:
    return Unreadable(f"is not sound that can be read; send {TAKEN}")


def _too_long() -> Unreadable:
    """A header need not tell how long it is, or not the truth."""
    return Unreadable(f"is longer than {MAX_SECONDS // 3600} hours; send it in parts")


def _empty() -> Unreadable:
    return Unreadable(
        f"holds no sound that could be decoded; send {TAKEN}, at {LOWEST_RATE} to {HIGHEST_RATE} Hz and of up to "
        f"{MAX_CHANNELS} channels"
    )
