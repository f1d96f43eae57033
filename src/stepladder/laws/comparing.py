"""Which law: every law that the columns allow, ranked by how it forecasts the dearest runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws import registry
from stepladder.laws.backtesting import Backtest, backtest
from stepladder.laws.law import Law
from stepladder.laws.points import check_direction, points

MOST = 300  # runs that laws are compared on
INTERVALS = 12  # of held-out runs, whose coverage is shown beside the errors
STARTS = 60  # enough to rank; the chosen law is fitted with all of them
SMALL, EACH = 5, 6  # laws with more unknowns than SMALL are compared on EACH runs for every one


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One candidate: its backtest, or why it cannot be fitted."""

    law: str
    backtest: Backtest | None
    reason: str = ""


def compare(columns: Mapping[str, ArrayLike], target: str = "loss", **options: Any) -> list[Ranked]:
    """Backtest every law whose inputs are columns; the lowest held-out error first.

    Errors within a few percent of each other are alike: then the law with fewer unknowns comes
    first, then the older.

    Large tables are compared on about `MOST` of their runs, evenly spread over the target.

    Args:
        options: of `backtest`.
    """
    columns, options = _thinned(columns, target, options)
    ranked = [_ranked(law, columns, options) for law in candidates(columns, target)]
    return sorted(ranked, key=_order)


def _thinned(
    columns: Mapping[str, ArrayLike], target: str, options: Mapping[str, Any]
) -> tuple[Mapping[str, ArrayLike], dict[str, Any]]:
    size = np.size(columns.get(target, ()))
    step = size // MOST
    if step < 2:
        return columns, dict(options)
    kept = np.sort(np.argsort(np.asarray(columns[target]), kind="stable")[step // 2 :: step])
    by_row = {name: x for name, x in options.items() if x is not None and np.size(x) == size}
    some = {name: np.asarray(x)[kept].tolist() for name, x in by_row.items()}
    return {n: np.asarray(x)[kept] for n, x in columns.items()}, {**options, **some}


def _order(one: Ranked) -> tuple[float, int, str]:
    law = registry.get(one.law)
    error = np.inf if one.backtest is None else round(np.log(one.backtest.error + 1e-12), 1)
    return float(error), len(law.names), law.arxiv


def candidates(columns: Mapping[str, ArrayLike], target: str = "loss") -> list[Law]:
    """Laws for this target whose inputs all are columns."""
    laws = [registry.get(name) for name in registry.names()]
    return [
        law for law in laws if law.target == target and all(i.name in columns for i in law.inputs)
    ]


def best_law(
    columns: Mapping[str, ArrayLike], target: str = "loss", **options: Any
) -> list[Ranked]:
    """The ranking, where at least one law can be fitted.

    Raises:
        ValueError: none can; the text says why for each.
    """
    laws = candidates(columns, target)
    if not laws:
        raise ValueError(f"no law of {target} has all its inputs among {', '.join(columns)}")
    widest = max(laws, key=lambda law: len(law.inputs))
    # what is wrong with the table itself is said once, not by every law
    check_direction(
        widest, points(widest, columns, positive=not widest.signed, rows=options.get("rows"))
    )
    ranked = compare(columns, target, **options)
    if ranked[0].backtest is None:
        why = "; ".join(f"{r.law}: {r.reason}" for r in ranked)
        raise ValueError(f"no law fits the columns {', '.join(columns)}: {why}")
    return ranked


def _ranked(law: Law, columns: Mapping[str, ArrayLike], options: Mapping[str, Any]) -> Ranked:
    unknowns, runs = len(law.names), np.size(columns[law.target])
    if unknowns > SMALL and runs < EACH * unknowns:
        reason = f"{unknowns} unknowns want {EACH * unknowns} runs; name the law to fit it anyway"
        return Ranked(law=law.name, backtest=None, reason=reason)
    try:
        result = backtest(law, columns, rivals=(), most=INTERVALS, **{"starts": STARTS, **options})
    except ValueError as error:
        return Ranked(law=law.name, backtest=None, reason=str(error))
    if not np.isfinite(result.error):
        return Ranked(law=law.name, backtest=None, reason="its forecasts are not finite")
    return Ranked(law=law.name, backtest=result)
