"""Make the reference data that come from SIDEKIT and kaldiio, with SIDEKIT and kaldiio.

    python tests/reference/make_data.py SIDEKIT-1.4.3.2 tests/reference/data

The first argument is SIDEKIT's unpacked source. It imports only beside old versions of other
packages; what is needed of it here imports with Python 3.10, numpy 1.23, scipy, h5py, pandas,
soundfile and matplotlib. It is used unchanged. The script reads what is in `features/sidekit_none`
of the second argument, and writes everything else but `models`.
"""

from __future__ import annotations

import json
import struct
import sys
import types
from pathlib import Path

import h5py
import kaldiio
import numpy as np

SOURCE, DATA = Path(sys.argv[1]), Path(sys.argv[2])

# Its own __init__ imports PyTorch for parts that have nothing to do with mixtures.
package = types.ModuleType("sidekit")
package.__path__ = [str(SOURCE / "sidekit")]
package.PARALLEL_MODULE = "multiprocessing"
package.PARAM_TYPE = np.float32
package.STAT_TYPE = np.float64
sys.modules["sidekit"] = package

from sidekit.features_server import FeaturesServer  # noqa: E402
from sidekit.frontend.io import write_hdf5  # noqa: E402
from sidekit.mixture import Mixture  # noqa: E402

SHOW = "theo_1"
SHORT = "nicolas_6"  # Its 288 frames of speech are fewer than a window.
SEGMENT = (100, 350)
CASES = {
    "raw": {},
    "vad_only": {"keep_all_features": False},
    "cms": {"feat_norm": "cms"},
    "cmvn": {"feat_norm": "cmvn"},
    "stg": {"feat_norm": "stg"},
    "cmvn_sliding": {"feat_norm": "cmvn_sliding"},
    "cms_sliding": {"feat_norm": "cms_sliding"},
    "delta": {"delta": True},
    "delta2": {"delta": True, "double_delta": True},
    "rasta": {"rasta": True},
    "mask": {"mask": "[0-4,7,10-12]"},
    "sdc": {"sdc": True, "sdc_config": (1, 3, 7)},
    "full_chain": {
        "rasta": True,
        "delta": True,
        "double_delta": True,
        "feat_norm": "cmvn",
        "keep_all_features": False,
    },
}


def server(folder: str = "sidekit_none", **options: object) -> FeaturesServer:
    """A server of the features of a folder."""
    return FeaturesServer(
        feature_filename_structure=str(DATA / "features" / folder / "{}.h5"),
        dataset_list=["energy", "cep", "vad"],
        **{"keep_all_features": True, **options},
    )


def compressed(show: str) -> None:
    """The show as SIDEKIT compresses it: `htk` to 16 bits and `percentile` to 8."""
    for compression in ("htk", "percentile"):
        with (
            h5py.File(DATA / "features" / "sidekit_none" / f"{show}.h5") as read,
            h5py.File(DATA / "features" / f"sidekit_{compression}" / f"{show}.h5", "w") as written,
        ):
            group = read[show]
            cep, energy = group["cep"][()], group["energy"][()]
            nothing = (None, None, None)
            write_hdf5(
                show,
                written,
                *(cep, group["cep_mean"][()], group["cep_std"][()]),
                *(energy, group["energy_mean"][()], group["energy_std"][()]),
                *nothing,
                *nothing,
                group["vad"][()].astype(bool),
                compression=compression,
            )


def kept(count: int) -> np.ndarray:
    """The frames of which values are kept: the edges, and every fifth between."""
    edge = np.arange(12)
    return np.union1d(np.r_[edge, count - 1 - edge], np.arange(0, count, 5))


def features() -> None:
    """What its FeaturesServer makes of a show, option by option."""
    values: dict[str, np.ndarray] = {}
    for case, options in CASES.items():
        frames, label = server(**options).load(SHOW)
        values[f"{case}__frames"] = np.array(len(frames))
        values[case] = frames[kept(len(frames))].astype(np.float32)
        values[f"{case}__label"] = np.packbits(label)
    for case in ("stg", "cmvn_sliding"):
        frames, _ = server(**CASES[case]).load(SHORT)
        values[f"{case}_short"] = frames[kept(len(frames))].astype(np.float32)
    frames, _ = server("sidekit_percentile").load(SHOW)
    values["sidekit_percentile"] = frames[kept(len(frames))].astype(np.float32)
    frames, _ = server().load(SHOW, start=SEGMENT[0], stop=SEGMENT[1])
    values["segment"] = frames.astype(np.float32)
    np.savez_compressed(DATA / "sidekit" / "features.npz", **values)


def mixtures() -> None:
    """What it trains on all shows, in one thread (more of them spoil its sums)."""
    shows = sorted(path.stem for path in (DATA / "features" / "sidekit_none").glob("*.h5"))
    folder = DATA / "sidekit"
    cepstra = {"feat_norm": "cmvn", "keep_all_features": False}
    everything = {**cepstra, "delta": True, "double_delta": True}
    result: dict[str, object] = {
        "tool": f"SIDEKIT 1.4.3.2, numpy {np.__version__}, num_thread=1",
        "shows": shows,
    }
    for name, options, components, iterations, full_iterations in (
        ("diag4", cepstra, 4, (2, 4), 1),  # The first is right, what it goes on with is not.
        ("diag16", everything, 16, (1, 2, 2, 4), 4),
    ):
        diagonal = Mixture()
        llk = diagonal.EM_split(server(**options), shows, components, iterations, num_thread=1)
        diagonal.write(str(folder / f"{name}.h5"))
        if components == 16:  # Not later: the full mixture takes the arrays, and changes some.
            diagonal.write_alize(str(folder / "diag16.gmm"))
        entry: dict[str, object] = {
            "components": components,
            "iterations": iterations,
            "EM_split_llk_per_frame": [float(value) for value in llk],
            "EM_diag2full_iterations": full_iterations,
        }
        full = Mixture()
        try:
            llk = full.EM_diag2full(diagonal, server(**options), shows, full_iterations)
            full.write(str(folder / f"full{components}.h5"))
            entry["EM_diag2full_llk_per_frame"] = [float(value) for value in llk]
        except np.linalg.LinAlgError as error:
            entry["EM_diag2full_raises"] = f"{type(error).__name__}({str(error)!r})"
        result[name] = entry
    (folder / "training.json").write_text(json.dumps(result, indent=1) + "\n")


def other_formats() -> None:
    """The first frames of two shows as HTK's parameter files, .npy files and Kaldi's archives."""
    shows = {}
    for show in (SHOW, SHORT):
        with h5py.File(DATA / "features" / "sidekit_none" / f"{show}.h5") as file:
            group = file[show]
            shows[show] = np.column_stack([group["energy"][:200], group["cep"][:200]])
    for folder in ("htk", "npy", "kaldi"):
        (DATA / "features" / folder).mkdir(parents=True, exist_ok=True)
    for show, frames in shows.items():
        # Frames of 10 ms in units of 100 ns, bytes a frame, and the kind USER.
        head = struct.pack(">iihh", len(frames), 100_000, 4 * frames.shape[1], 9)
        path = DATA / "features" / "htk" / f"{show}.htk"
        path.write_bytes(head + frames.astype(">f4").tobytes())
        np.save(DATA / "features" / "npy" / f"{show}.npy", frames)
    for name, options in (
        ("feats", {}),
        ("feats_compressed", {"compression_method": 2}),
        ("feats_text", {"text": True}),
    ):
        path = DATA / "features" / "kaldi" / name
        index = None if name == "feats_text" else f"{path}.scp"
        chosen = {SHOW: shows[SHOW]} if name == "feats_text" else shows
        kaldiio.save_ark(f"{path}.ark", chosen, scp=index, **options)
        if index:
            text = Path(index).read_text().replace(str(path.parent), "kaldi")
            Path(index).write_text(text)


if __name__ == "__main__":
    for folder in ("features/sidekit_htk", "features/sidekit_percentile", "sidekit"):
        (DATA / folder).mkdir(parents=True, exist_ok=True)
    compressed(SHOW)
    features()
    mixtures()
    other_formats()
