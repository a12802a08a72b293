"""Feature files for tests, written without the readers under test."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import numpy as np


def frames_of(seed: int, count: int = 40, dimension: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, dimension)).astype(np.float32)


def write_hdf5(
    path: Path, show: str, frames: np.ndarray, vad: np.ndarray | None, mode: str = "w"
) -> None:
    """As SIDEKIT does, without compression: the first coefficient is the energy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, mode) as file:
        if "compression" not in file:
            file["compression"] = 0
        group = file.create_group(show)
        group.create_dataset("energy", data=frames[:, 0], compression="gzip", fletcher32=True)
        group.create_dataset("cep", data=frames[:, 1:], compression="gzip", fletcher32=True)
        if vad is not None:
            group["vad"] = vad.astype(np.int8)


def speech_of(seed: int, count: int = 40) -> np.ndarray:
    labels = np.random.default_rng(1000 + seed).random(count) < 0.7
    labels[0] = True
    return labels


def write_htk(path: Path, frames: np.ndarray, kind: int = 9) -> None:
    """Big-endian float32, or 16 bits if `kind` has the qualifier _C; zeros as a checksum."""
    count, dimension = frames.shape
    if kind & 0o2000:
        high, low = frames.max(axis=0).astype(float), frames.min(axis=0).astype(float)
        scale = 2 * 32767 / (high - low)
        offset = (high + low) * 32767 / (high - low)
        head = struct.pack(">iihH", count + 4, 100000, 2 * dimension, kind)
        body = scale.astype(">f4").tobytes() + offset.astype(">f4").tobytes()
        body += np.rint(frames * scale - offset).astype(">i2").tobytes()
    else:
        head = struct.pack(">iihH", count, 100000, 4 * dimension, kind)
        body = frames.astype(">f4").tobytes()
    path.write_bytes(head + body + (b"\0\0" if kind & 0o10000 else b""))


def kaldi_matrix(frames: np.ndarray) -> bytes:
    """A binary float32 matrix."""
    head = b"\0BFM " + struct.pack("<bibi", 4, frames.shape[0], 4, frames.shape[1])
    return head + frames.astype("<f4").tobytes()


def kaldi_vector(values: np.ndarray) -> bytes:
    """A binary float32 vector."""
    return b"\0BFV " + struct.pack("<bi", 4, len(values)) + values.astype("<f4").tobytes()


def write_ark(path: Path, matrices: dict[str, bytes]) -> dict[str, int]:
    """An archive, and the offset of each matrix."""
    content, offsets = b"", {}
    for key, matrix in matrices.items():
        content += key.encode() + b" "
        offsets[key] = len(content)
        content += matrix
    path.write_bytes(content)
    return offsets
