"""Reading and processing one show at a time, for packing, checks and servers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.config.features import FeatureSettings
from gmmcore.data.labels import LabelSource
from gmmcore.data.normalisation import ShowStatistics
from gmmcore.data.processing import process, speech_labels, static_part
from gmmcore.data.readers import Place, Source, Sources, parse_place, quiet
from gmmcore.data.readers.faults import FaultyShowError, reading
from gmmcore.data.table import Row
from gmmcore.errors import GmmcoreError, counted

__all__ = ["ShowReader", "statistics_of_show"]

Frames = npt.NDArray[np.float32]
Labels = npt.NDArray[np.bool_]


class ShowReader:
    """Reads and processes the shows of a list.

    Parameters
    ----------
    settings : FeatureSettings

    Notes
    -----
    The methods that read raise `FaultyShowError` for a show that cannot be used.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        self.settings = settings
        self.label_source = LabelSource(settings)
        self._sources = Sources(settings.format, settings.datasets)
        self._whole: tuple[tuple[str, str], ShowStatistics] | None = None

    def __enter__(self) -> ShowReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all feature files."""
        self._sources.close()

    def opened(self, path: str) -> tuple[Source, Place]:
        """Open the source that a path of a list names, and return it with the place in it."""
        place = parse_place(path, self.settings.folder)
        return self._sources.get(place.file), place

    @quiet()
    @reading()
    def frames(self, row: Row) -> Frames:
        """Read and process the frames of a row, shape (n, D'), n > 0; all values are finite."""
        try:
            source, place = self.opened(row.path)
            found = source.describe(row.show, place).frames
        except FaultyShowError as error:
            # The show was valid when the list was checked.
            raise FaultyShowError(error.found, error.expected, error.remedy, changed=True) from None
        if found != row.frames:
            raise FaultyShowError(
                f"{found} frames", f"{row.frames}, as when the list was checked",
                "give the same command again", changed=True,
            )  # fmt: skip
        try:
            frames, labels = self._raw(row, source, place)
            frames, _ = process(frames, labels, self.settings, self._statistics(row, source, place))
        except MemoryError:
            # This is no fault of the show, because it depends on the machine.
            raise GmmcoreError(
                f"show {row.show} ({row.path}): memory ran out for its {row.frames} frames; "
                "give the job more, or remove the show"
            ) from None
        if not len(frames):
            raise _without_speech(row.last - row.first)
        _check_finite(frames, "after processing")
        return frames

    def _raw(self, row: Row, source: Source, place: Place) -> tuple[Frames, Labels]:
        frames = source.read(row.show, place, row.first, row.last)
        if len(frames) != row.last - row.first:
            raise FaultyShowError(
                f"{len(frames)} frames could be read", f"{row.last - row.first}",
                "give the same command again", changed=True,
            )  # fmt: skip
        _check_finite(frames, "in the file")
        labels = self.label_source.read(row.show, source, place, row.first, row.last, row.frames)
        return frames, labels

    def _statistics(self, row: Row, source: Source, place: Place) -> ShowStatistics | None:
        """Return the statistics of the whole show's speech, if its segments need them."""
        if not self.settings.is_global:
            return None
        key = (row.path, row.show)
        if self._whole is None or self._whole[0] != key:
            whole = self._raw(row._replace(first=0, last=row.frames), source, place)
            self._whole = (key, statistics_of_show(*whole, self.settings))
        return self._whole[1]


def statistics_of_show(frames: Frames, labels: Labels, settings: FeatureSettings) -> ShowStatistics:
    """Compute the statistics of a whole show, for the global normalisations of its segments.

    Parameters
    ----------
    frames : ndarray, shape (N, D), float32
        All frames of the show, as they were read.
    labels : ndarray, shape (N,), bool
        Their labels.
    settings : FeatureSettings

    Raises
    ------
    FaultyShowError
        If the labels select no frame.
    """
    labels = speech_labels(labels, settings)
    if not labels.any():
        raise _without_speech(len(labels))
    return ShowStatistics.of(static_part(frames, settings)[labels])


def _without_speech(frames: int) -> FaultyShowError:
    return FaultyShowError(
        f"its voice-activity labels select no frame of {frames}",
        "some speech",
        "make its labels again, remove the show, or set features: vad to null (all frames)",
    )


def _check_finite(frames: Frames, where: str) -> None:
    finite = np.isfinite(frames)
    if not finite.all():
        frame, coefficient = np.argwhere(~finite)[0]
        values = counted(int((~finite).sum()), "NaN or infinite value")
        raise FaultyShowError(
            f"{values} {where}, the first in frame {frame}, coefficient {coefficient}",
            "finite numbers",
            "extract the show again",
        )
