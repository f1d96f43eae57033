"""Laws that forecast together: fitted with the dear runs first, each heard by how it foretold.

No law is right far from its runs: one with a floor tends to forecast too high, one without too
low. Three things make forecasts better than those of the law that fits best:

- Every run counts by its cost (`points.leaning_to_dear`), so that a law that is only nearly right
  is right where the forecast starts from.
- The plausible laws are mixed, each by the inverse square of its error on dear runs when it is
  fitted without them (Bates and Granger 1969).
- With few runs the floor has a weak prior (`prior`), since they cannot show it.

Bars that were too narrow on those held-out runs are widened, and all bars widen with the reach of a
forecast (`Panel.widening_at`). Measured: `python evidence/make_laws.py backtests` and
`python evidence/make_unseen.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stepladder.laws.fitting import GAUSSIAN_POINTS, fit_points
from stepladder.laws.holdout import Held, missed, trials, widening
from stepladder.laws.law import Array, Law
from stepladder.laws.points import leaning_to_dear, spent
from stepladder.laws.registry import get
from stepladder.laws.result import Fit
from stepladder.laws.scale import ROUNDING

STARTS = 100
EACH = 3  # runs for every unknown of a rival
NEAR, GROWTH = 4.0, 0.2  # bars hold up to this reach, and grow as this power of it beyond


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Laws fitted to the same points.

    Args:
        fits: the law that was asked first.
        weights: of each in the mixture, (fits,).
        widening: factor on the bars of the mixture near the runs.
    """

    fits: tuple[Fit, ...]
    weights: Array
    widening: float

    @property
    def log(self) -> bool:
        """Whether residuals are of logarithms."""
        return self.fits[0].settings.objective.residual == "log"

    def widening_at(self, point: Mapping[str, Array]) -> float:
        """The factor on the bars at one point: more than `widening` where it is far from the runs.

        Bars come from runs as they are; that a law is wrong shows as it is stretched. Without
        this, 79 to 88% of outcomes at more than 8 times the dearest run lie in their 90% interval,
        with it 91 to 100% (`python evidence/make_reach.py`, on the tables it was chosen on).
        """
        law, runs = self.fits[0].law, self.fits[0].points.inputs
        if not any(i.falls for i in law.inputs):  # not a law of cost
            return self.widening
        one = {name: np.asarray(point[name])[None] for name in runs}
        reach = float(spent(law, one)[0] / spent(law, runs).max())
        return self.widening * max(reach / NEAR, 1.0) ** GROWTH

    @property
    def shares(self) -> dict[str, float]:
        """The weight of each law, by its name."""
        return {f.law.name: float(w) for f, w in zip(self.fits, self.weights, strict=True)}


def panel(fit: Fit, rivals: Iterable[str] | None = None) -> Panel:
    """The laws that forecast for a fit.

    Args:
        rivals: names of laws besides the fit's own: those that it names itself, as far as the
            points support them, where None; with none at all the fit forecasts alone, as it
            stands.

    Raises:
        ValueError: a law needs inputs that the fit does not have.
    """
    names = _plausible(fit) if rivals is None else list(rivals)
    alone = not names and rivals is not None
    fits = (fit,) if alone else tuple(_leaning(fit, law) for law in (fit.law, *map(get, names)))
    tried = [trials(f.problem, f.points.cost, f.coordinates, f.settings.noise) for f in fits]
    weights = _weights(tried)
    return Panel(fits=fits, weights=weights, widening=widening(_mixed(tried, weights)))


def _leaning(fit: Fit, law: Law) -> Fit:
    points = fit.points
    missing = [i.name for i in law.inputs if i.name not in points.inputs]
    if missing:
        raise ValueError(f"law {law.name} needs {', '.join(missing)}, which this fit has not")
    own = replace(points, inputs={i.name: points.inputs[i.name] for i in law.inputs})
    settings = replace(
        fit.settings,
        bootstrap=0,
        starts=min(fit.settings.starts, STARTS),
        floor_noise=fit.scale.noise if len(points) < GAUSSIAN_POINTS else None,
    )
    return fit_points(law, leaning_to_dear(own), settings)


def _plausible(fit: Fit) -> list[str]:
    """The law's own rivals, those that these points support."""
    laws = [get(name) for name in fit.law.rivals]
    return [
        law.name
        for law in laws
        if law.target == fit.law.target
        and all(i.name in fit.points.inputs for i in law.inputs)
        and len(fit.points) > EACH * len(law.names)
    ]


def _weights(tried: Sequence[Sequence[Held | None]]) -> Array:
    """Of each law: its held-out error to the power -2; an unknown error counts as the largest."""
    error = np.array([missed(one) for one in tried], dtype=np.float64)  # None becomes NaN
    if np.isnan(error).all():
        return np.eye(len(tried))[0]
    known = np.where(np.isnan(error), np.nanmax(error), error)
    raw = np.maximum(known, ROUNDING) ** -2.0
    return np.asarray(raw / raw.sum())


def _mixed(tried: Sequence[Sequence[Held | None]], weights: Array) -> list[Held | None]:
    """What the mixture said of held-out runs, at every cut where all of its laws spoke."""
    mixed: list[Held | None] = []
    for cut in zip(*tried, strict=True):
        known = [one for one in cut if one is not None]
        if len(known) < len(cut):
            mixed.append(None)
            continue
        miss = np.tensordot(weights, [one.miss for one in known], axes=1)
        square = np.tensordot(weights, [one.error**2 + one.miss**2 for one in known], axes=1)
        mixed.append(Held(miss, np.sqrt(np.maximum(square - miss**2, 0.0))))
    return mixed
