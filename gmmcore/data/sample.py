"""A sample of the frames of a corpus, for what need not read all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.data.corpus import Corpus
from gmmcore.data.joined import CorpusFrames
from gmmcore.data.shards import BLOCK_FRAMES
from gmmcore.files import PathLike

__all__ = ["SAMPLE_FRAMES", "sample_frames"]

SAMPLE_FRAMES = 131_072
"""Number of frames that a sample has at most."""


def sample_frames(
    corpus: Corpus, path: PathLike, limit: int = SAMPLE_FRAMES
) -> npt.NDArray[np.float32]:
    """Read all frames, or blocks of frames that lie evenly over all shards.

    The frames of the random subsets come first in a shard. Evenly spaced blocks have their share of
    them, so that a mixture trained on a subset is not judged by the frames that it was trained on.

    Parameters
    ----------
    corpus : Corpus
    path
        Its file, ``corpus.json``; the shards lie beside it.
    limit : int
        Largest number of frames.

    Returns
    -------
    ndarray, shape (F, D), float32
        The frames of the sample.

    Raises
    ------
    GmmcoreError
        If a shard is missing, or its frames are not those that it was made with.
    """
    frames = CorpusFrames(corpus, path)
    blocks = [
        (index, start)
        for index, shard in enumerate(corpus.shards)
        for start in range(0, shard.frames, BLOCK_FRAMES)
    ]
    if corpus.frames > limit:
        count = min(len(blocks), max(1, limit // BLOCK_FRAMES))
        blocks = [blocks[i] for i in np.linspace(0, len(blocks) - 1, count).round().astype(int)]
    ends = [min(start + BLOCK_FRAMES, corpus.shards[index].frames) for index, start in blocks]
    return np.concatenate(
        [frames.read(index, start, end) for (index, start), end in zip(blocks, ends, strict=True)]
    )
