"""Video files in and out, one frame at a time, through PyAV.

A folder of PNG or JPEG pictures stands for a video wherever one is read.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError

from realisdance_jax.data.blobs import Blob, Source
from realisdance_jax.data.images import PICTURE_SUFFIXES, read_image
from realisdance_jax.data.video_ends import ends_whole
from realisdance_jax.utils.errors import UserError
from realisdance_jax.utils.files import atomic_output, existing_file
from realisdance_jax.utils.listing import listed_files

# Playlist and script formats could make FFmpeg open other files or addresses.
_READ_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,m4v,h264,hevc",
}
# Tags need not be UTF-8. PyAV 19 always reads them this way and has dropped the argument.
_OLD_PYAV = int(av.__version__.split(".")[0]) < 19
_TAG_ERRORS: dict[str, Any] = {"metadata_errors": "surrogateescape"} if _OLD_PYAV else {}
_WRITE_OPTIONS = {"movflags": "use_metadata_tags+faststart"}
_BT601, _LIMITED_RANGE = 6, 1  # what PyAV's RGB conversion uses; untagged HD files look off


@dataclass(frozen=True)
class VideoInfo:
    """Displayed size in pixels, frames per second (None for a folder of pictures), frame count."""

    width: int
    height: int
    fps: float | None
    frames: int


def probe_video(path: Source) -> VideoInfo:
    """Size, rate and exact frame count of a video or a folder of pictures.

    The count of an MP4 header is checked against the packets present; other containers are decoded
    and compared with the length their header gives (Matroska, WebM, FLV, AVI) or their last bytes
    (GIF, MPEG-TS). Formats that say neither (MPEG-PS, raw streams) are taken as they are.
    Raises `UserError` for a missing, foreign, empty or truncated file.
    """
    if not isinstance(path, Blob) and os.path.isdir(path):
        pictures = listed_files(path, PICTURE_SUFFIXES, "pictures")
        height, width, _ = read_image(pictures[0]).shape
        return VideoInfo(width, height, None, len(pictures))
    with _open(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise UserError(f"{path}: expected a video, found no frame in it")
        height, width, _ = _upright(first).shape
        rate = stream.average_rate or stream.guessed_rate
    return VideoInfo(width, height, float(rate) if rate else None, _count_frames(path))


def read_frames(path: Source, indices: Sequence[int] | None = None) -> Iterator[np.ndarray]:
    """Frames as uint8 RGB (H W 3), upright, decoded in one pass with constant memory.

    Args:
        path: video file, also one in memory, or folder of pictures in natural order.
        indices: ascending frame numbers, repeats allowed; every frame when None.

    Raises `UserError` (some only while iterating) for a missing or foreign file, for fewer frames
    than the container promises or `indices` ask, and for frames of changing size; `ValueError`
    for indices that are negative or descend.
    """
    if indices is not None and (
        any(index < 0 for index in indices) or any(b < a for a, b in pairwise(indices))
    ):
        raise ValueError("frame indices must be non-negative and ascending")
    if not isinstance(path, Blob) and os.path.isdir(path):
        pictures = listed_files(path, PICTURE_SUFFIXES, "pictures")
        frames = ((picture, picture) for picture in pictures)
        return _select(path, frames, lambda name: read_image(name, "drop"), indices)
    if not isinstance(path, Blob):
        existing_file(path, "a video file or a folder of pictures")
    return _select(path, _decode(path), _upright, indices)


def read_metadata(path: Source) -> dict[str, str]:
    """The tags of a video file, those of `VideoWriter` among them; `UserError` as `probe_video`."""
    with _open(path) as (container, _):
        return {_readable(key): _readable(value) for key, value in container.metadata.items()}


def _readable(tag: str) -> str:
    """`tag` with whatever was not UTF-8 replaced, so that it can be printed."""
    return tag.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class VideoWriter:
    """Writes H.264 (yuv420p) MP4: whole under `path`, or nothing if the block is left by an error.

    Args:
        path: file to create.
        fps: frames per second, may be fractional.
        size: height and width in pixels, both even.
        metadata: tags kept in the file, read back by `read_metadata`.
        crf: quality, 0 (lossless) to 51; 18 is visually near the source.

    Raises `ValueError` for a bad size, rate or frame, and for leaving the block without a frame;
    `UserError` when the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        fps: float,
        size: tuple[int, int],
        metadata: Mapping[str, str] | None = None,
        crf: int = 18,
    ):
        height, width = size
        if height < 2 or width < 2 or height % 2 or width % 2:
            raise ValueError(f"video size must be even, got {height} x {width}")
        self._rate = Fraction(fps).limit_denominator(1001)
        if self._rate <= 0:
            raise ValueError(f"frame rate must be positive, got {fps}")
        self.path, self.size, self.crf = Path(path), (height, width), crf
        self.metadata = dict(metadata or {})
        self.frames = 0

    def __enter__(self) -> "VideoWriter":
        with ExitStack() as stack:
            partial = stack.enter_context(atomic_output(self.path))
            with self._failures():
                target = av.open(str(partial), "w", format="mp4", options=_WRITE_OPTIONS)
            self._container = stack.enter_context(target)
            with self._failures():
                self._stream = self._add_stream()
            self._stack = stack.pop_all()
        return self

    def _add_stream(self) -> av.VideoStream:
        self._container.metadata.update(self.metadata)
        options = {"crf": str(self.crf)}
        stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        stream.height, stream.width = self.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = _BT601
        stream.codec_context.color_range = _LIMITED_RANGE
        return stream

    def write(self, frame: np.ndarray) -> None:
        """Append one uint8 RGB frame (H W 3)."""
        if frame.dtype != np.uint8 or frame.shape != (*self.size, 3):
            wanted = (*self.size, 3)
            raise ValueError(f"expected a uint8 frame {wanted}, got {frame.dtype} {frame.shape}")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        with self._failures():
            self._container.mux(self._stream.encode(picture))
        self.frames += 1

    def __exit__(self, kind, error, trace) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if not self.frames:
                raise ValueError(f"{self.path}: no frame was written")
            with self._failures():
                self._container.mux(self._stream.encode())
                self._container.close()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (FFmpegError, OSError) as error:
            raise UserError(f"{self.path}: cannot write the video ({error.strerror})") from None


@contextmanager
def _open(path: Source) -> Iterator[tuple[InputContainer, av.VideoStream]]:
    target: str | Blob
    if isinstance(path, Blob):
        path.seek(0)
        target = path
    else:
        # Absolute, so that a name such as "concat:a" is never taken for a protocol.
        target = str(existing_file(path, "a video file").absolute())
    try:
        with av.open(target, options=_READ_OPTIONS, **_TAG_ERRORS) as container:
            if not container.streams.video:
                raise UserError(f"{path}: expected a video, found no video stream in it")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield container, stream
    except (FFmpegError, OSError) as error:
        raise UserError(
            f"{path}: expected a video, found an unreadable or damaged file ({error.strerror})"
        ) from None


def _promised(container: InputContainer, stream: av.VideoStream) -> int:
    """The header's frame count where it can be trusted (the sample table of MP4), else 0."""
    return stream.frames if "mp4" in container.format.name else 0


class _Extent:
    """The time to which the header of some containers says they go, and to which packets do.

    AVI counts the frames of its video; the others give the length of all streams together.
    """

    def __init__(self, container: InputContainer, stream: av.VideoStream):
        rate = stream.average_rate or stream.guessed_rate
        self.frame = 1 / rate if rate else Fraction(1, 25)
        self.kind, self.video = container.format.name, stream.index
        self.promised, self.found = Fraction(0), Fraction(0)
        if self.kind == "avi":
            self.promised = stream.frames * self.frame
        elif "matroska" in self.kind or self.kind == "flv":
            self.promised = Fraction(container.duration or 0, av.time_base)

    def add(self, packet: av.Packet) -> None:
        """Reckon with a packet; of unknown length, it lasts a frame."""
        of_video = packet.stream.index == self.video
        start = packet.dts if packet.pts is None else packet.pts
        if start is None or not packet.size or (self.kind == "avi" and not of_video):
            return
        length = (packet.duration or 0) * packet.time_base or self.frame * of_video
        self.found = max(self.found, start * packet.time_base + length)

    def check(self, path: Source) -> None:
        """Raise `UserError` when most of a frame or more is missing, or the file's last bytes."""
        if self.found < self.promised - self.frame * 3 / 4:
            wanted, found = float(self.promised), float(self.found)
            raise UserError(
                f"{path}: expected {wanted:.2f} s, found {found:.2f}: the file is truncated"
            )
        if not ends_whole(path, self.kind):
            raise UserError(f"{path}: expected a whole video, found no end: the file is truncated")


def _truncated(path: Source, promised: int, found: int) -> UserError:
    return UserError(f"{path}: expected {promised} frames, found {found}: the file is truncated")


def _decode(path: Source) -> Iterator[tuple[str, av.VideoFrame]]:
    """Every frame in display order, with a name for messages."""
    with _open(path) as (container, stream):
        promised, found, extent = _promised(container, stream), 0, _Extent(container, stream)
        for packet in container.demux():
            extent.add(packet)
            if packet.stream.index != stream.index:
                continue
            cut = packet.is_corrupt
            promised -= packet.is_discard  # cut away by an edit list
            # The decoder still holds whole frames when a cut packet ends the file.
            for frame in stream.decode(None if cut else packet):
                yield f"{path}: frame {found}", frame
                found += 1
            if cut:
                raise _truncated(path, max(promised, found + 1), found)
    if found < promised:
        raise _truncated(path, promised, found)
    if not found:
        raise UserError(f"{path}: expected a video, found no frame in it")
    extent.check(path)


def _count_frames(path: Source) -> int:
    with _open(path) as (container, stream):
        promised = _promised(container, stream)
        if promised:
            packets = [packet for packet in container.demux(stream) if packet.size]
            whole = sum(not packet.is_corrupt for packet in packets)
            if whole < promised:
                raise _truncated(path, promised, whole)
            if whole == promised and not any(packet.is_discard for packet in packets):
                return promised
    return sum(1 for _ in _decode(path))


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """RGB, turned as the display matrix says (phones store portrait clips lying down)."""
    quarter_turns = round(frame.rotation / 90)
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns))


def _select(
    path: Source,
    frames: Iterator[tuple[object, Any]],
    load: Callable[[Any], np.ndarray],
    indices: Sequence[int] | None,
) -> Iterator[np.ndarray]:
    """`load` those of the (name, frame) pairs that `indices` name; check their count and size."""
    wanted = None if indices is None else Counter(indices)
    last = None if wanted is None else max(wanted, default=-1)
    shape, found = None, 0
    if last == -1:
        return
    for found, (name, frame) in enumerate(frames, start=1):
        times = 1 if wanted is None else wanted[found - 1]
        if times:
            picture = load(frame)
            shape = shape or picture.shape
            if picture.shape != shape:
                raise UserError(
                    f"{name}: expected {shape[1]} x {shape[0]} pixels like the frames before it, "
                    f"found {picture.shape[1]} x {picture.shape[0]}"
                )
            yield picture
            yield from (picture.copy() for _ in range(times - 1))
        if last is not None and found > last:
            return
    if last is not None:
        raise UserError(f"{path}: expected at least {last + 1} frames, found {found}")
