"""corpus.json: the frames that a run trains on, shard by shard, and their moments."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gmmcore.core.moments import Moments
from gmmcore.errors import DamagedFileError, GmmcoreError
from gmmcore.files import PathLike, digest_of, read_bytes, replace_text

if TYPE_CHECKING:
    from gmmcore.data.shards import Shard

__all__ = ["Corpus", "CorpusShard"]

_KIND = "gmmcore corpus 2"


@dataclass(frozen=True)
class CorpusShard:
    """Entry of one shard in a corpus.

    Attributes
    ----------
    shard : str
        Name of the shard.
    file : str
        Name of the shard's file, without the folder.
    subsets : tuple of int
        Number of frames of the subset of each level, which is the beginning of the shard.
    content_digest : str
        Digest of the frames: the same frames have the same digest on any machine.
    """

    shard: str
    file: str
    subsets: tuple[int, ...]
    content_digest: str

    @classmethod
    def of(cls, shard: Shard) -> CorpusShard:
        """Make the entry of a shard."""
        name = os.path.basename(shard.path)
        return cls(shard.facts["shard"], name, tuple(shard.subsets), shard.content_digest)

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.subsets[0]


@dataclass(frozen=True)
class Corpus:
    """All shards that a run trains on.

    Attributes
    ----------
    shards : tuple of CorpusShard
    dimension : int
        Dimension of a frame.
    mean, second : tuple of float
        Mean of all frames, and sum of the squared differences from it, both of length D.
    skipped : int
        Number of faulty shows that were left out.
    skipped_digest : str
        SHA-256 of the table of these shows, ``skipped.tsv``.
    """

    shards: tuple[CorpusShard, ...]
    dimension: int
    mean: tuple[float, ...]
    second: tuple[float, ...]
    skipped: int = 0
    skipped_digest: str = ""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return sum(shard.frames for shard in self.shards)

    @cached_property
    def digest(self) -> str:
        """Digest of all frames, in the order of the shards."""
        return digest_of("corpus", [[shard.shard, shard.content_digest] for shard in self.shards])

    @property
    def moments(self) -> Moments:
        """Moments of all frames."""
        return Moments(self.frames, np.array(self.mean), np.array(self.second))

    def paths(self, path: PathLike) -> list[str]:
        """List the shards' files, in the order of the shards, which lie beside the file `path`."""
        return [os.path.join(os.path.dirname(path), shard.file) for shard in self.shards]

    def write(self, path: PathLike) -> None:
        """Write the file, whole or not at all."""
        values = asdict(self)
        values["kind"] = _KIND
        values["check"] = digest_of(values)
        replace_text(path, json.dumps(values, indent=1) + "\n")

    @classmethod
    def read(cls, path: PathLike) -> Corpus:
        """Read and verify a file that `write` wrote.

        Raises
        ------
        DamagedFileError
            If the file is truncated or altered.
        """
        try:
            values = json.loads(read_bytes(path))
            check = values.pop("check")
            if values.pop("kind") != _KIND or check != digest_of({**values, "kind": _KIND}):
                raise ValueError
            values["shards"] = tuple(
                CorpusShard(**{**shard, "subsets": tuple(shard["subsets"])})
                for shard in values["shards"]
            )
            values["mean"], values["second"] = tuple(values["mean"]), tuple(values["second"])
            return cls(**values)
        except GmmcoreError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DamagedFileError(
                f"{path}: damaged; remove it and give the same command again"
            ) from None
