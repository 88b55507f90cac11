"""Pictures and videos that lie in memory, as a data set's shards hold them."""

import io
from pathlib import Path


class Blob(io.BytesIO):
    """The bytes of a file, readable wherever a path is, and what messages call it."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name

    def __str__(self) -> str:
        return self.name


Source = str | Path | Blob
"""Where one picture or video comes from."""
