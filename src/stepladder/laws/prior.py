"""What is believed of a floor before any run is seen: little, and told only to fits of few runs.

Some ten runs hardly tell a floor from a small exponent, and a fit that is left alone often ends at
no floor at all and forecasts too low. So the logarithm of the floor has a wide normal prior, in
which it lies between 0.3 and 1.6 of the lowest loss in nine of ten cases, and below the lowest loss
in three of four; Chinchilla's floors, 1.69 and 1.82 (arXiv:2203.15556, arXiv:2404.10102), are some
0.85 of the loss of the best runs. Chosen on the small tables of `python evidence/make_unseen.py`
and on tables cut down to 9 to 17 runs.
"""

from typing import NamedTuple

import numpy as np

from stepladder.laws.law import Array, Law

FLOOR = "E"  # what every law here calls its floor
SHARE, SPREAD = 0.7, 0.5  # of the lowest loss; standard deviation of the logarithm


class Prior(NamedTuple):
    """A parabola in one coordinate, in units of the objective."""

    coordinate: int
    centre: float
    weight: float

    def value(self, coordinates: Array) -> Array:
        """Of candidates (..., coordinates)."""
        return 0.5 * self.weight * (coordinates[..., self.coordinate] - self.centre) ** 2

    def bend(self, coordinates: Array, gradient: Array, curvature: Array, bound: Array) -> None:
        """Add its slope and curvature to those of the points, in place."""
        k = self.coordinate
        gradient[..., k] += self.weight * (coordinates[..., k] - self.centre)
        curvature[..., k, k] += self.weight
        if bound is not curvature:  # one array where the loss is a square
            bound[..., k, k] += self.weight


def has_floor(law: Law) -> bool:
    """Whether a law ends at a positive floor in units of its target."""
    positive = [c.name for c in law.coefficients if not c.free]
    return law.link == "identity" and not law.signed and FLOOR in positive


def floor_prior(law: Law, target: Array, noise: float) -> Prior:
    """The prior of a law that has a floor.

    Args:
        target: (points,) of the fitted runs.
        noise: standard deviation of one run's logarithm: the objective is in units of its square.
    """
    centre = float(np.log(SHARE * np.min(target)))
    return Prior(law.names.index(FLOOR), centre, (noise / SPREAD) ** 2)
