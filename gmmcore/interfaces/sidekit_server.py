"""`FeaturesServer`: the interface of SIDEKIT to feature files."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gmmcore.config.keys import DATASETS, FeatureSettings
from gmmcore.core.density import checked_frames
from gmmcore.data.process import add_context, process, speech_labels
from gmmcore.data.readers import (
    FaultyShowError,
    Place,
    Source,
    Sources,
    parse_place,
    place_of,
    reading,
)
from gmmcore.data.shows import statistics_of_show
from gmmcore.errors import GmmcoreError
from gmmcore.interfaces.sidekit_arguments import refuse, type_of

Frames = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]


class FeaturesServer:
    """Load stored features of a show and process them, as ``sidekit.FeaturesServer`` does.

    Parameters
    ----------
    features_extractor : None
        Not available: docs/features.md says how to make feature files from audio.
    feature_filename_structure : path, optional
        File name, with ``{}`` in the place of the show, of any format that gmmcore reads.
    sources : sequence of (FeaturesServer, bool), optional
        Servers whose features are joined, and whether the labels of each server count; only
        without a `dataset_list`.
    dataset_list : sequence of str or str, optional
        Datasets of SIDEKIT's files: some of ``energy``, ``cep``, ``fb``, ``bnf``; ``vad`` has no
        effect.
    mask : str or sequence of int, optional
        Coefficients to keep, such as ``[0-4,7]``.
    feat_norm : str, optional
        ``cms``, ``cmvn``, ``stg``, ``cms_sliding`` or ``cmvn_sliding``.
    global_cmvn : bool, optional
        Whether ``cms`` and ``cmvn`` use statistics of the whole show instead of the segment.
    sdc, delta, double_delta, rasta : bool, optional
        Whether to append shifted deltas, deltas and deltas of deltas, and to filter by RASTA.
    sdc_config : (d, p, k), optional
        Parameters of shifted deltas, by default (1, 3, 7).
    delta_filter : sequence of float, optional
        Weights of frames in a delta, beginning with the latest frame.
    context : (left, right), optional
        Numbers of neighbours that `get_context` joins; `load` joins none, as in SIDEKIT.
    keep_all_features : bool, optional
        Whether to keep all frames, or only speech.
    dct_pca, dct_pca_config, traps_dct_nb
        Not available.

    Notes
    -----
    All frames of a file without labels count as speech. Values differ from SIDEKIT's where SIDEKIT
    is wrong: deltas of the first and last frames (see `delta` of `gmmcore.data.process`), shifted
    deltas near the end for p > 3, HTK compression, and standard deviations of zero.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from gmmcore import FeaturesServer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/show1.npy", np.zeros((100, 13)))
    ...     server = FeaturesServer(feature_filename_structure=folder + "/{}.npy", delta=True)
    ...     frames, label = server.load("show1", start=0, stop=50)
    >>> frames.shape, label.shape
    ((50, 26), (50,))
    """

    def __init__(
        self,
        features_extractor: None = None,
        feature_filename_structure: str | None = None,
        sources: Sequence[tuple[FeaturesServer, bool]] | None = None,
        dataset_list: Sequence[str] | str | None = None,
        mask: str | Sequence[int] | None = None,
        feat_norm: str | None = None,
        global_cmvn: bool | None = None,
        dct_pca: bool = False,
        dct_pca_config: Any = None,
        sdc: bool = False,
        sdc_config: Sequence[int] | None = None,
        delta: bool | None = None,
        double_delta: bool | None = None,
        delta_filter: npt.ArrayLike | None = None,
        context: Sequence[int] | None = None,
        traps_dct_nb: int | None = None,
        rasta: bool | None = None,
        keep_all_features: bool = True,
    ) -> None:
        for name, value in (
            ("features_extractor", features_extractor),
            ("dct_pca", dct_pca),
            ("traps_dct_nb", traps_dct_nb),
        ):
            if value:
                found, remedy = f"{name} is not available", "store such features in files first"
                refuse("FeaturesServer", found, "None", remedy)
        pairs = "pairs (server, whether its labels are taken)"
        for argument, given, kind, expected in (
            ("feature_filename_structure", feature_filename_structure, str | os.PathLike, "a path"),
            ("sources", sources, Iterable, pairs),
            ("dataset_list", dataset_list, Iterable, f"some of {', '.join(DATASETS)}"),
            ("sdc_config", sdc_config, Iterable, "(d, p, k)"),
            ("context", context, Iterable, "(left, right)"),
        ):
            if given is not None and not isinstance(given, kind):
                refuse(f"FeaturesServer: {argument}", type_of(given), expected)
        self.feature_filename_structure = os.fspath(feature_filename_structure or "{}")
        self.sources = tuple(sources or ())
        self.dataset_list = _datasets(dataset_list)
        self.global_cmvn = bool(global_cmvn)
        self.context = tuple(context or (0, 0))
        if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in self.sources):
            refuse("FeaturesServer: sources", "something else", pairs)
        whole = [isinstance(n, int | np.integer) and n >= 0 for n in self.context]
        if whole != [True, True]:
            expected = "(left, right), two numbers of frames"
            refuse("FeaturesServer: context", f"{self.context}", expected)
        if self.global_cmvn and feat_norm in ("cms", "cmvn"):
            feat_norm = f"{feat_norm}_global"
        options: dict[str, Any] = {
            "list": "-",
            "datasets": list(self.dataset_list or DATASETS[:2]),
            "mask": list(mask) if isinstance(mask, tuple) else mask,
            "normalisation": feat_norm,
            "sdc": list(sdc_config or (1, 3, 7)) if sdc and not delta else None,
            "delta": bool(delta),
            # As in SIDEKIT, double_delta has an effect only with delta.
            "double_delta": bool(delta) and bool(double_delta),
            "rasta": bool(rasta),
            "select_speech": not keep_all_features,
        }
        if delta_filter is not None:
            options["delta_filter"] = tuple(np.asarray(delta_filter, dtype=np.float64).tolist())
        self.settings = FeatureSettings.from_mapping(options)
        self._files = Sources("auto", self.settings.datasets)

    @property
    def keep_all_features(self) -> bool:
        """Whether `load` returns all frames or only speech; a script may set it, as in SIDEKIT."""
        return not self.settings.select_speech

    @keep_all_features.setter
    def keep_all_features(self, value: bool) -> None:
        self.settings = replace(self.settings, select_speech=not value)

    def __enter__(self) -> FeaturesServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all open files; the next `load` opens its file again."""
        self._files.close()

    def load(
        self,
        show: str,
        channel: int = 0,
        input_feature_filename: str | None = None,
        label: npt.ArrayLike | None = None,
        start: int | None = None,
        stop: int | None = None,
    ) -> tuple[Frames, Labels]:
        """Load and process a show or a segment of it.

        Parameters
        ----------
        show : str
            Name of the show.
        channel : int, optional
            Not used: features in files have one channel.
        input_feature_filename : str, optional
            Name of the file, in the place of `feature_filename_structure`.
        label : array_like, shape (N,), optional
            Labels of the frames of the segment, in the place of those in the file.
        start, stop : int, optional
            The segment is start <= i < stop. Beyond the ends of the show, its first and last frame
            are repeated.

        Returns
        -------
        frames : ndarray, shape (N, D), float32
            The processed frames.
        label : ndarray, shape (N,), bool
            Whether each frame is speech.
        """
        if not isinstance(show, str):
            refuse("show", type_of(show), "its name as text")
        try:
            start, stop = (None if at is None else operator.index(at) for at in (start, stop))
        except TypeError:
            found = f"start {start!r}, stop {stop!r}"
            refuse(f"show {show}", found, "numbers of frames, or None", "correct them")
        given = None if label is None else np.asarray(label, dtype=bool)
        if self.dataset_list is None and self.sources:
            return self._joined(show, channel, given, start, stop)
        structure = input_feature_filename or self.feature_filename_structure
        path = structure.replace("{}", show)
        path = path if input_feature_filename else place_of(path)
        try:
            with reading():
                place = parse_place(path)
                source = self._files.get(place.file)
                frames, labels = self._segment(source, show, place, given, start, stop)
                whole = None
                # Without speech there is nothing to normalise.
                if self.settings.is_global and speech_labels(labels, self.settings).any():
                    all_of_it = self._segment(source, show, place, None, None, None)
                    whole = statistics_of_show(*all_of_it, self.settings)
        except FaultyShowError as error:
            raise GmmcoreError(error.fault(show, path).line()) from None
        return process(frames, labels, self.settings, whole)

    def get_context(
        self,
        feat: npt.ArrayLike,
        start: int | None = None,
        stop: int | None = None,
        label: npt.ArrayLike | None = None,
    ) -> tuple[Frames, Labels | None]:
        """Join frames with their neighbours, as the argument `context` of the server says.

        Parameters
        ----------
        feat : array_like, shape (N, D)
            Frames of a show.
        start, stop : int, optional
            The result has frames start <= i < stop.
        label : array_like, shape (N,), optional
            Labels of all frames.

        Returns
        -------
        frames : ndarray, shape (stop - start, D (left + 1 + right)), float32
            Joined frames; the earliest neighbour comes first.
        label : ndarray, shape (stop - start,), bool, or None
            Labels of these frames, if given.
        """
        values = checked_frames(feat)
        if values.ndim != 2:
            refuse("feat", f"an array of shape {values.shape}", "(N, D)", "correct its shape")
        frames = add_context(values.astype(np.float32, copy=False), *self.context)
        chosen = None if label is None else np.asarray(label, dtype=bool)[start:stop]
        return frames[start:stop], chosen

    def _joined(
        self, show: str, channel: int, label: Labels | None, start: int | None, stop: int | None
    ) -> tuple[Frames, Labels]:
        parts = []
        for server, with_labels in self.sources:
            frames, own = server.load(show, channel, label=label, start=start, stop=stop)
            label = own if with_labels else label
            parts.append(frames)
        if len({len(part) for part in parts}) != 1:
            found = f"{', '.join(str(len(part)) for part in parts)} frames in its sources"
            refuse(f"show {show}", found, "the same number in each", "extract it again")
        labels = np.ones(len(parts[0]), dtype=bool) if label is None else label
        return process(np.concatenate(parts, axis=1), labels, self.settings)

    def _segment(
        self,
        source: Source,
        show: str,
        place: Place,
        label: Labels | None,
        start: int | None,
        stop: int | None,
    ) -> tuple[Frames, Labels]:
        count = source.describe(show, place).frames
        first, last = start or 0, count if stop is None else stop
        low, high = max(first, 0), min(last, count)
        if low >= high:
            expected = f"one within its frames 0 to {count}"
            raise FaultyShowError(
                f"the segment {first} to {last}", expected, "correct start and stop"
            )
        frames = source.read(show, place, low, high)
        missing = (low - first, last - high)
        frames = np.pad(frames, (missing, (0, 0)), mode="edge")
        if label is None:
            label = source.labels(show, place, low, high)
            label = np.ones(high - low, dtype=bool) if label is None else label
            label = np.pad(label, missing, mode="edge") if len(label) else label
        if label.shape != (len(frames),):
            expected = f"{len(frames)}, one per frame"
            raise FaultyShowError(f"{label.size} labels", expected, "make the labels again")
        return frames, label


def _datasets(value: Sequence[str] | str | None) -> tuple[str, ...] | None:
    """Return the known datasets of a list, or of a text such as ``[cep, vad]``."""
    if value is None:
        return None
    if isinstance(value, str):
        value = [name.strip(" \"'") for name in value.strip("[]").split(",")]
    unknown = [name for name in value if name not in (*DATASETS, "vad")]
    if unknown or not set(value) & set(DATASETS):
        found, expected = f"{unknown or 'nothing'}", f"some of {', '.join(DATASETS)}"
        refuse("FeaturesServer: dataset_list", found, expected)
    return tuple(name for name in DATASETS if name in value)
