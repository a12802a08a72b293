"""The section about the components of a mixture."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gmmcore.core.describe import condition_numbers
from gmmcore.report import mixture_plots
from gmmcore.report.outcome import Outcome
from gmmcore.report.page import Page
from gmmcore.report.plane import ELLIPSES, plane, principal_axes

__all__ = ["add_components"]

Array = npt.NDArray[np.float64]


def add_components(page: Page, outcome: Outcome) -> None:
    """Add the section about the components of the final mixture to a page."""
    mixture, settings = outcome.model.mixture, outcome.settings
    step = settings.iteration("full" if mixture.is_full else "diag")
    least, _ = step.frames(mixture.dimension)
    page.heading("Components")
    quiet = []
    if mixture.components > 1:
        page.plot(mixture_plots.occupancies, mixture.weights, outcome.corpus.frames, least)
        low = int((mixture.weights * outcome.corpus.frames < least).sum())
        page.paragraph(
            f"Occupancy is weight x frames. {low or 'None'} of the {mixture.components} components "
            f"{'is' if low < 2 else 'are'} below the least occupancy, {least:g} frames.",
            "note",
        )
    relative = _relative_variances(outcome)
    what = "rank of the eigenvalue, smallest first" if mixture.is_full else "dimension"
    page.plot(mixture_plots.variances, relative, step.floor, step.ceiling, what)
    shares = {
        "at the floor": (relative <= step.floor * (1 + 1e-6)).mean(axis=0),
        "at the ceiling": (relative >= step.ceiling * (1 - 1e-6)).mean(axis=0),
    }
    named = "Eigenvalues, after whitening by" if mixture.is_full else "Variances, relative to"
    page.paragraph(
        f"{named} the global variances: from the smallest to the largest of all components, and "
        "their median.",
        "note",
    )
    if any(share.any() for share in shares.values()):
        page.plot(mixture_plots.moved, shares, what)
    else:
        quiet.append("no variance is at its floor or ceiling")
    if mixture.is_full and mixture.dimension > 1:
        page.plot(mixture_plots.conditions, condition_numbers(mixture))
        page.paragraph("Components by the condition number of their covariance.", "note")
    elif not mixture.is_full:
        quiet.append("condition numbers are those of full covariances")
    if mixture.dimension > 1:
        mean, axes, held = principal_axes(outcome.sample)
        page.plot(plane, mixture, outcome.sample, mean, axes)
        some = f"The {ELLIPSES} heaviest" if mixture.components > ELLIPSES else "All"
        page.paragraph(
            f"{some} components as ellipses of one standard deviation, over a sample of the "
            "frames, in the plane of the first two principal axes of the standardised "
            f"coefficients, which holds {held:.0%} of their variance.",
            "note",
        )
    if quiet:
        page.paragraph(f"Left out: {'; '.join(quiet)}.", "note")


def _relative_variances(outcome: Outcome) -> Array:
    """Return variances (C, D) relative to the global ones, or whitened eigenvalues, sorted."""
    mixture = outcome.model.mixture
    control = mixture.variance_control
    if control is None:
        control = np.broadcast_to(
            np.array(outcome.corpus.second) / outcome.corpus.frames, mixture.means.shape
        )
    if not mixture.is_full:
        return np.asarray(mixture.covariances / control)
    deviation = np.sqrt(control)
    scale = deviation[:, :, np.newaxis] * deviation[:, np.newaxis, :]
    return np.asarray(np.linalg.eigvalsh(mixture.covariances / scale))
