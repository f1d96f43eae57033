"""A plan as text: one line for parameters that differ only in their block's number."""

from collections import defaultdict

from stepladder.scaling.depth import kind_name
from stepladder.scaling.plan import Plan
from stepladder.scaling.records import Record

_HEADINGS = ("parameter", "role", "width", "depth", "std", "mult", "lr", "wd", "eps", "optimizer")


def table_text(plan: Plan) -> str:
    """The plan's table, aligned, in the model's order; its source below it.

    A constant start, such as a gain's, stands in the column of standard deviations as `=1`.
    """
    merged: dict[tuple[str, ...], list[tuple[str, Record]]] = defaultdict(list)
    for name, record in plan.table.items():
        merged[(kind_name(name), *_factors(record))].append((name, record))
    rows = [_HEADINGS, *(_row(same) for same in merged.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_aligned(row, widths) for row in rows]
    whys = [record.why.partition(" [") for record in plan.table.values()]
    sources = dict.fromkeys(source.rstrip("]") for _, _, source in whys)
    return "\n".join([f"{plan.rule} for {plan.optimizer}", *lines, *sources])


def _factors(record: Record) -> tuple[str, ...]:
    r = record
    numbers = (r.width, r.depth, r.multiplier, r.lr, r.weight_decay, r.eps)
    return (record.role, *(f"{value:.4g}" for value in numbers), record.optimizer)


def _row(same: list[tuple[str, Record]]) -> tuple[str, ...]:
    name, record = same[0]
    role, grown, depth, multiplier, lr, decay, eps, optimizer = _factors(record)
    label, fill = name if len(same) == 1 else kind_name(name), f"{record.fill:.3g}"
    std = f"{sum(r.init_std for _, r in same) / len(same):.3g}" if record.init_std else "=" + fill
    return (label, role, grown, depth, std, multiplier, lr, decay, eps, optimizer)


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
