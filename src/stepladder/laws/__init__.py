"""Scaling laws: what a law is, one engine that fits any of them, and what a fit can honestly say.

numpy and scipy only; nothing here imports torch.

Adding a law is one file in `laws/library/` that ends in `register(Law(...))`; nothing else changes.
The contract, with `library/chinchilla.py` as the example:

- A prediction is `link(sum_j coefficient_j * column_j)`. Everything that enters linearly is a
  `Coefficient` (solved, never searched); everything else a `Parameter` (searched within bounds).
- `columns(p, x)` returns the columns, in the order of `coefficients`. `p[name]` has shape
  (starts, 1) and `x[name]` shape (points,), so that ordinary arithmetic gives (starts, points);
  each column need only broadcast to that. A column may be a constant (`1.0` for a floor). One
  column more than there are coefficients is added as it stands (coefficient one); a law without
  coefficients returns only that one.
- `power(x, e)` is `x ** e`, several times faster. Use numpy functions that accept complex numbers
  (exp, log, expm1, log1p, arithmetic, comparisons through `numpy.where` on inputs): the derivatives
  are exact, by complex steps. Where speed matters `slopes` may return them analytically.
- An input with more than one axis keeps the points first: x[name] of shape (points, k) meets
  `p[name][..., None]`, and the column reduces the last axis.
- A positive coefficient is at least zero: give its column the sign it has in the paper. `free=True`
  lets it be negative.
- `link` is the map from the sum to the target: "identity", "exp" (laws for the logarithm of the
  target) or "logistic" (rates between 0 and 1).
- `constants` are published values, each with its source (paper and table) and the range of inputs
  it was fitted on; `Constants.values` names every parameter and coefficient. `derived` are
  quantities computed from them (allocation exponents and the like).
- An input's `meaning` states its convention (which parameters are counted, which unit): published
  laws differ in it and it changes exponents. Use the names of `columns.KNOWN` where one fits.
- Allocation trades `params` against `tokens` under `6 params tokens` FLOP; a law whose runs cost
  otherwise (experts, precision, sparsity) gives `compute` and `stored`, and `choices` on the input
  that allocation may choose.

`get(name)` returns a law, `names()` lists them, `law.predict(values, inputs)` evaluates it, and
`fit(law, columns)` fits it: `Fit.forecast`, `allocate`, `backtest` go on from there. Loss curves
under a learning-rate schedule have `fit_curves` and its `forecast`.
"""

from importlib import import_module
from typing import Any

# public name -> the module that defines it; resolved on first use, so that start-up stays instant
_PUBLIC = {
    "Coefficient": "law",
    "Constants": "law",
    "Input": "law",
    "Law": "law",
    "Parameter": "law",
    "allocate": "allocation",
    "backtest": "backtesting",
    "compare": "comparing",
    "Fit": "result",
    "Curve": "curves",
    "Forecast": "forecasting",
    "Objective": "objective",
    "fit": "fitting",
    "fit_curves": "curve_forecast",
    "forecast": "forecasting",
    "power": "law",
    "get": "registry",
    "names": "registry",
    "register": "registry",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stepladder.laws' has no attribute {name!r}")
    return getattr(import_module(f"stepladder.laws.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
