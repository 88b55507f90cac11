"""The sound of a film or a sound file, put into an MP4 beside its pictures without re-encoding."""

import heapq
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.error import FFmpegError

from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import existing_file

CODECS = ("aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus")
"""What players expect in an MP4."""

# Playlist and script formats could make FFmpeg open other files or addresses.
_READ_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,m4v,"
    "wav,w64,aiff,caf,mp3,aac,ac3,eac3,flac",
}
_WRITE_OPTIONS = {"movflags": "use_metadata_tags+faststart"}
# Tags need not be UTF-8. PyAV 19 has dropped the argument.
_OLD_PYAV = int(av.__version__.split(".")[0]) < 19
_TAG_ERRORS: dict[str, Any] = {"metadata_errors": "replace"} if _OLD_PYAV else {}

_TELL_LENGTH = ("mp4", "matroska", "flv", "flac")
"""Formats with the length of all streams in the header; of others FFmpeg guesses it."""
_SLACK = 0.25  # seconds: lengths are rounded, and last packets need not tell theirs

Timed = Iterator[tuple[float, int, av.Packet]]
"""Seconds from the start of the film, number of the stream, packet."""


def check_sound(path: str | Path, seconds: float) -> None:
    """Raise `UserError` unless `path` has sound that an MP4 can hold as it is.

    seconds: of the video that it is for. The file is read as far, and must not have been cut off
        before that or be silent so long.
    """
    with _open(path) as (container, stream):
        for _ in _sound(path, container, stream, seconds):
            pass


def add_sound(
    video: Path, sound: str | Path, out: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Write `out`: the pictures of the MP4 `video` and the sound of `sound`, packets copied.

    Args:
        video: its first stream is copied whole.
        sound: a film or sound file; from its beginning, cut where the pictures end (to within one
            packet, some hundredths of a second). It may be shorter.
        out: an `.mp4`, from `atomic_output`.
        metadata: tags of `out`.
    Raises `UserError` as `check_sound`, and where `out` cannot be written.
    """
    with (
        av.open(str(video), options=_READ_OPTIONS, **_TAG_ERRORS) as pictures,
        _open(sound) as (container, stream),
    ):
        film = pictures.streams.video[0]
        length = float((film.duration or 0) * (film.time_base or 0))
        try:
            with av.open(str(out), "w", format="mp4", options=_WRITE_OPTIONS) as target:
                target.metadata.update(metadata or {})
                streams = [target.add_stream_from_template(one) for one in (film, stream)]
                timed = [_pictures(pictures, film), _sound(sound, container, stream, length)]
                for _, number, packet in heapq.merge(*timed, key=lambda packet: packet[:2]):
                    packet.stream = streams[number]
                    target.mux(packet)
        except (FFmpegError, OSError) as error:
            raise UserError(f"{out}: cannot write the video ({error.strerror})") from None


def _pictures(container: InputContainer, stream: av.VideoStream) -> Timed:
    for packet in container.demux(stream):
        if packet.dts is not None:  # the last one is empty
            yield float(packet.dts * packet.time_base), 0, packet


def _sound(
    path: str | Path, container: InputContainer, stream: av.AudioStream, length: float
) -> Timed:
    """Packets that begin before `length` seconds, counted from the beginning of the film.

    There is at least one, and a file that ends before `length` is as long as its header says.
    """
    first = container.streams.video[0] if container.streams.video else stream
    begin = float((first.start_time or 0) * (first.time_base or 0))
    end, count = 0.0, 0
    try:
        for packet in container.demux():
            if packet.pts is None or packet.dts is None:
                continue
            shift = round(begin / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            start = float(packet.pts * packet.time_base)
            if packet.stream.index == stream.index:
                if start >= length:
                    break
                count += 1
                yield float(packet.dts * packet.time_base), 1, packet
            end = max(end, start + float((packet.duration or 0) * packet.time_base))
        else:
            _check_end(path, container, begin, end, length)
    except FFmpegError as error:
        raise _unreadable(path, error) from None
    if not count:
        raise UserError(f"{path}: expected sound in the first {length:.2f} s, found none")


def _check_end(
    path: str | Path, container: InputContainer, begin: float, end: float, length: float
) -> None:
    """Raise `UserError` where a file ends before `length` and before its header says.

    begin: of the film, in the file's time. end, length: seconds from there.
    """
    known = any(name in container.format.name for name in _TELL_LENGTH)
    promised = (container.duration or 0) / av.time_base - begin if known else 0.0
    if end < min(promised, length) - _SLACK:
        found = f"expected {promised:.2f} s, found {end:.2f}"
        raise UserError(f"{path}: {found}: the file is truncated")


@contextmanager
def _open(path: str | Path) -> Iterator[tuple[InputContainer, av.AudioStream]]:
    target = str(existing_file(path, "a film or sound file").absolute())
    try:
        container = av.open(target, options=_READ_OPTIONS, **_TAG_ERRORS)
    except (FFmpegError, OSError) as error:
        raise _unreadable(path, error) from None
    with container:
        if not container.streams.audio:
            raise UserError(f"{path}: expected sound, found no audio stream in it")
        stream = container.streams.audio[0]
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
        if codec not in CODECS:
            hint = f"ffmpeg -i {Path(path).name} -vn sound.m4a"
            known = ", ".join(CODECS)
            raise UserError(
                f"{path}: expected sound as {known}, found {codec} (convert it: {hint})"
            )
        yield container, stream


def _unreadable(path: str | Path, error: OSError | FFmpegError) -> UserError:
    return UserError(
        f"{path}: expected sound, found an unreadable or damaged file ({error.strerror})"
    )
