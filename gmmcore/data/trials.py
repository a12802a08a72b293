"""Models adapted to the statistics of shows, and scores of trials, from files to files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from gmmcore.core.mixture import GaussianMixture
from gmmcore.core.parallel import threads_map
from gmmcore.core.shows import each_show
from gmmcore.core.verification import (
    Ratios,
    adapt_means,
    equal_error_rate,
    scores_by_slopes,
    slopes_of,
)
from gmmcore.data.lists import lines_of, text_of, unclear_line
from gmmcore.data.readers import Frames
from gmmcore.data.score import Shows
from gmmcore.errors import GmmcoreError, counted
from gmmcore.files import PathLike, replace_text, sha256_of
from gmmcore.formats.base import Array
from gmmcore.formats.registry import read_mixture
from gmmcore.formats.statserver import NamedRow, Rows, open_rows, write_rows, write_scores

# So many models or shows are in memory at a time.
_MODELS, _SHOWS = 256, 64
LABELS = ("target", "nontarget")
Pair = tuple[str, str]


def read_pairs(path: str, key: str, labels: Sequence[str] = ()) -> dict[Pair, str]:
    """Read lines ``model show``, each once, all with one of the labels or all without."""
    wanted = "`model show`" + "".join(f" or `model show {label}`" for label in labels)
    found: dict[Pair, str] = {}
    for number, line in lines_of(path, f"lines {wanted}", f"verification.{key}"):
        words = line.split()
        pair, label = (*words, "", "")[:2], "".join(words[2:])
        if len(words) < 2 or label not in ("", *labels):
            raise unclear_line(path, number, line, wanted)
        if pair in found:
            raise unclear_line(path, number, line, "each pair of model and show once")
        if found and (label == "") != (next(iter(found.values())) == ""):
            raise unclear_line(path, number, line, "a label in each line, or in none")
        found[pair[0], pair[1]] = label
    if not found:
        raise GmmcoreError(f"{path}: no lines; expected {wanted}; correct verification.{key}")
    return found


def make_statistics(
    path: PathLike, ubm: PathLike, shows: Shows, precision: str, threads: int
) -> list[str]:
    """Write the statistics of the shows of a list, sorted by name; return the names."""
    mixture = read_mixture(ubm)
    shows.check(mixture)

    def rows() -> Iterator[NamedRow]:
        frames = shows.read(sorted(shows.rows))
        for one in each_show(mixture, frames, precision=precision, threads=threads):
            yield one.name, one.name, one.count, one.first

    return write_rows(path, rows(), mixture=sha256_of(ubm))


def make_models(
    path: PathLike, ubm: PathLike, statistics: Sequence[str], enrolment: str, relevance: float
) -> list[str]:
    """Adapt the means of the mixture to the shows of each model; return the models' names."""
    mixture, digest = read_mixture(ubm), sha256_of(ubm)
    of_model: dict[str, list[str]] = {}
    pairs = read_pairs(enrolment, "enrolment")
    for model, show in sorted(pairs):
        of_model.setdefault(model, []).append(show)
    with open_rows(statistics, digest) as found:
        _require_shows(found, enrolment, pairs)

        def rows() -> Iterator[NamedRow]:
            for model, shows in of_model.items():
                count, first = (values.sum(axis=0) for values in found.read(shows))
                means = adapt_means(mixture, count, first, relevance)
                yield model, model, np.ones_like(count), means

        return write_rows(path, rows(), mixture=digest)


def _require_shows(rows: Rows, path: str, pairs: Iterable[Pair]) -> None:
    """Raise an error that names a show of a list without statistics."""
    if absent := rows.lacking(show for _, show in pairs):
        raise GmmcoreError(
            f"{path}: {counted(len(absent), 'show')} without frames, such as {absent[0]}; "
            "expected shows in the lists of statistics; add them there, or remove the lines"
        )


def make_scores(
    table: PathLike,
    matrix: PathLike,
    ubm: PathLike,
    models: str,
    statistics: Sequence[str],
    trials: str,
    lists: Sequence[Shows],
    precision: str,
    threads: int,
) -> str:
    """Score trials, by exact ratios if `lists` give frames; return a line on their errors."""
    mixture, digest = read_mixture(ubm), sha256_of(ubm)
    pairs = read_pairs(trials, "trials", LABELS)
    with open_rows([models], digest) as of_models, open_rows(statistics, digest) as found:
        _require_shows(found, trials, pairs)
        if absent := of_models.lacking(model for model, _ in pairs):
            raise GmmcoreError(
                f"{trials}: {counted(len(absent), 'model')} without shows, such as {absent[0]}; "
                "expected models of verification.enrolment; add lines there, or remove these"
            )
        names, rows = _numbered([model for model, _ in pairs])
        shows, columns = _numbered([show for _, show in pairs])
        mask = np.zeros((len(names), len(shows)), dtype=bool)
        mask[rows, columns] = True
        if lists:
            scores = _ratios(mixture, of_models, names, shows, mask, lists, precision, threads)
        else:
            scores = _linear(mixture, of_models, names, shows, found)
    lines = ["model\tshow\tscore" + "\tlabel" * any(pairs.values())]
    for (pair, label), score in zip(pairs.items(), scores[rows, columns], strict=True):
        lines.append("\t".join([*pair, f"{score:.9g}", label]).rstrip("\t"))
    replace_text(table, "\n".join(lines) + "\n")
    facts = {"mixture": digest, "table": sha256_of(table)}
    write_scores(matrix, names, shows, mask, scores, **facts)
    return error_line(table)


def _numbered(names: list[str]) -> tuple[list[str], npt.NDArray[np.intp]]:
    """Return the different names, sorted, and the number of each given one among them."""
    different, numbers = np.unique(names, return_inverse=True)
    return different.tolist(), numbers


def read_scores(path: PathLike) -> dict[str, Array]:
    """Return the scores of each label in a table of `make_scores`; none without labels."""
    result: dict[str, list[float]] = {}
    for line in text_of(str(path), "a table of scores", "it").splitlines()[1:]:
        _, _, score, *label = line.split("\t")
        for name in label:
            result.setdefault(name, []).append(float(score))
    return {name: np.array(values) for name, values in result.items()}


def error_line(path: PathLike) -> str:
    """Tell the equal error rate of a table of scores, if both labels are there."""
    found = read_scores(path)
    if found.keys() != {*LABELS}:
        return "no equal error rate: no trials with both labels"
    targets, nontargets = (found[label] for label in LABELS)
    return (
        f"equal error rate {100 * equal_error_rate(targets, nontargets):.2f} % of "
        f"{counted(len(targets) + len(nontargets), 'trial')}, {len(targets)} of them target trials"
    )


def _linear(
    mixture: GaussianMixture, of_models: Rows, models: list[str], shows: list[str], found: Rows
) -> Array:
    """Return the linear scores (M, T), with blocks of models and of shows in memory."""
    scores = np.empty((len(models), len(shows)))
    for i in range(0, len(models), _MODELS):
        slopes = slopes_of(mixture, of_models.read(models[i : i + _MODELS])[1])
        for j in range(0, len(shows), _SHOWS):
            block = scores_by_slopes(mixture, slopes, *found.read(shows[j : j + _SHOWS]))
            scores[i : i + _MODELS, j : j + _SHOWS] = block
    return scores


def _ratios(
    mixture: GaussianMixture,
    of_models: Rows,
    models: list[str],
    shows: list[str],
    mask: npt.NDArray[np.bool_],
    lists: Sequence[Shows],
    precision: str,
    threads: int,
) -> Array:
    """Return the ratios (M, T) of the trials, with the frames of few shows in memory."""
    scores, ratios = np.full(mask.shape, np.nan), Ratios(mixture, precision)
    columns = {show: column for column, show in enumerate(shows)}

    def frames() -> Iterator[tuple[str, Frames]]:
        for one in lists:
            yield from one.read([show for show in shows if show in one.rows])

    def work(given: tuple[str, Frames]) -> None:
        name, values = given
        column = columns[name]
        chosen = np.flatnonzero(mask[:, column])
        for start in range(0, len(chosen), _MODELS):
            some = chosen[start : start + _MODELS]
            means = of_models.read([models[row] for row in some])[1]
            scores[some, column] = ratios.of_show(name, means, values)

    for _ in threads_map(threads)(work, frames()):
        pass
    lost = (np.isnan(scores) & mask).any(axis=0)
    if lost.any():
        raise GmmcoreError(
            f"show {shows[int(lost.argmax())]}: the frames of its statistics cannot be read "
            "any more; bring them back, or make the statistics again"
        )
    return scores
