"""Whether the bytes of a video file go on to its own end, where a decoder reads past a cut."""

import io
from typing import BinaryIO

from realisdance_jax.data.blobs import Blob, Source

_TS_PACKETS = ((188, 0), (192, 4), (204, 0))
"""Bytes of a transport packet and where its sync byte stands: plain, M2TS, with parity."""
_SYNC = 0x47


def ends_whole(path: Source, container: str) -> bool:
    """Whether a file of FFmpeg's format `container` is whole, as far as its last bytes tell.

    GIF: its blocks lead to the trailer. MPEG-TS: a whole number of packets; a cut between two
    packets leaves no trace. Others: True.
    """
    check = {"gif": _gif_ends, "mpegts": _transport_ends}.get(container)
    if check is None:
        return True
    if isinstance(path, Blob):
        return check(io.BytesIO(path.getvalue()))
    with open(path, "rb") as file:
        return check(file)


def _gif_ends(file: BinaryIO) -> bool:
    """Walk the blocks of a GIF (GIF89a, section 12 and appendix A) without unpacking them."""
    head = file.read(13)
    if len(head) < 13:
        return False
    file.seek(_colours(head[10]), io.SEEK_CUR)
    while (kind := file.read(1)) != b";":
        if kind == b"!":  # an extension: its label
            file.seek(1, io.SEEK_CUR)
        elif kind == b"," and len(frame := file.read(9)) == 9:  # a picture: colours and code size
            file.seek(_colours(frame[8]) + 1, io.SEEK_CUR)
        else:
            return False
        while any(size := file.read(1)):
            file.seek(size[0], io.SEEK_CUR)
    return True


def _colours(flags: int) -> int:
    """Bytes of the colour table that follows a descriptor with these flags."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _transport_ends(file: BinaryIO) -> bool:
    head = file.read(2 * max(size for size, _ in _TS_PACKETS))
    for size, sync in _TS_PACKETS:
        if [byte for byte in head[sync : sync + size + 1 : size]] == [_SYNC] * 2:
            return file.seek(0, io.SEEK_END) % size == 0
    return True
