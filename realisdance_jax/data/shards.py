"""ArrayRecord shards of tensorflow-datasets, written as a stream, without TensorFlow.

The library's generator builders hold a split in memory and import TensorFlow once it outgrows a
gigabyte; its sequential writer does neither.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from realisdance_jax.data.stored import SPLIT

NAME = "realisdance"


class ShardWriter:
    """One folder of shards that `tfds.builder_from_directory` reads; also hashes what it writes.

    Args:
        digest: updated with every record, from `hashlib`.
        per_shard: records per file.
    """

    def __init__(
        self, folder: Path, features: tfds.features.FeaturesDict, digest: Any, per_shard: int
    ):
        folder.mkdir(parents=True)
        identity = tfds.core.DatasetIdentity(
            name=NAME, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
        )
        info = tfds.core.DatasetInfo(builder=identity, features=features, disable_shuffling=True)
        self._writer = tfds.core.SequentialWriter(info, per_shard, file_format="array_record")
        self._writer.initialize_splits([SPLIT])
        self._digest = digest

    def write(self, records: list[dict[str, Any]]) -> None:
        """Append records."""
        for record in records:
            _update(self._digest, record)
        self._writer.add_examples({SPLIT: records})

    def close(self) -> None:
        """Finish the last shard."""
        self._writer.close_splits([SPLIT])


def _update(digest: Any, value: Any) -> None:
    """Hash a record: names, and bytes with their lengths."""
    if isinstance(value, dict):
        for key in sorted(value):
            digest.update(key.encode())
            _update(digest, value[key])
    elif isinstance(value, list):
        digest.update(f"[{len(value)}]".encode())
        for item in value:
            _update(digest, item)
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data)
    else:
        data = value if isinstance(value, bytes) else str(value).encode()
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
