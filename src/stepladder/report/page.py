"""The HTML report: one file, no network, light and dark, fit for printing."""

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from stepladder.cost import cost
from stepladder.report import words
from stepladder.report.content import Content, spent
from stepladder.report.style import COLOURS

CSS = """
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 58rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
p { margin: .4rem 0; }
.muted, caption, th, footer { color: var(--muted); }
.figure { margin: 1rem 0; }
.figure svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; margin: .6rem 0 1.2rem; }
th { text-align: left; font-weight: 500; }
th, td { padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; }
.number { text-align: right; }
tr.strong td { font-weight: 600; }
code { font-size: .92em; }
footer { margin-top: 3rem; font-size: .85rem; }
@media print {
  main { max-width: none; padding: 0; }
  .figure, table, h2 { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""

CAPTIONS = {
    "forecast": "Loss against compute",
    "curves": "Loss curves",
    "rates": "Learning-rate transfer",
    "bill": "Where the budget went",
}


def page(content: Content, figures: Mapping[str, str]) -> str:
    """The whole report, with its figures (SVG by name) inside."""
    sections = [
        _figure("forecast", figures) + _forecast(content),
        _section("The target, and where each number is from", _choices(content)),
        _section("The rungs", _rungs(content)),
        _figure("curves", figures),
        _figure("rates", figures) + _tuning(content),
        _figure("bill", figures) + _bill(content),
    ]
    body = "\n".join(part for part in sections if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Stepladder: {escape(words.title(content.plan))}</title>\n"
        f"<style>{_colours()}{CSS}</style>\n</head>\n<body>\n<main>\n{_head(content)}\n{body}\n"
        f"{_foot(content)}\n</main>\n</body>\n</html>\n"
    )


def _colours() -> str:
    """The palette as variables, on a light ground and on a dark one; paper is light."""
    light, dark = (";".join(f"--{r}:{pair[i]}" for r, pair in COLOURS.items()) for i in (0, 1))
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def inlined(svg: str, name: str) -> str:
    """An SVG file as part of a page: without its XML head, its colours those of the page."""
    drawing = svg[svg.index("<svg") :]
    for role, (light, _) in COLOURS.items():
        drawing = drawing.replace(light, f"var(--{role})")
    # Identifiers are of one document now: glyphs and clips of two figures must not meet.
    drawing = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawing)
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{CAPTIONS[name]}" ', 1)


def _figure(name: str, figures: Mapping[str, str]) -> str:
    if name not in figures:
        return ""
    return f'<h2>{CAPTIONS[name]}</h2>\n<div class="figure">{inlined(figures[name], name)}</div>\n'


def _section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{body}"


def _head(content: Content) -> str:
    plan = content.plan
    if content.forecast:
        said = words.verdict(content.forecast, content.score)
    else:
        said = "Planned; no forecast yet"
    about = f"{words.title(plan)}. Budget {plan.budget} on {plan.device}. Planned {plan.created}."
    notes = "".join(f"<p>{escape(note)}</p>" for note in plan.notes)
    return f'<h1>{escape(said)}</h1>\n<p class="muted">{escape(about)}</p>{notes}'


def _foot(content: Content) -> str:
    text = f"Made by Stepladder from ladder {content.plan.name}: its plan, tuning, forecast, score"
    return f"<footer>{escape(text)}, and the run directories they name.</footer>"


def _forecast(content: Content) -> str:
    forecast, score = content.forecast, content.score
    if forecast is None:
        return ""
    rows = [
        ("forecast", words.forecast_words(forecast)),
        ("law", words.law(forecast)),
        ("rests on", f"{len(forecast['points'])} runs; it reaches {words.reach(forecast)}"),
        ("noise between seeds", f"{words.percent(forecast['seed_noise'])} of the loss"),
        ("written", f"{forecast['created']}, before the target was started"),
        ("target", forecast["target"]["key"]),
    ]
    if forecast["diverged"]:
        rows.append(("diverged, left out", ", ".join(forecast["diverged"])))
    if score is not None:
        error = f"{words.percent(score['relative_error'])} (forecast over outcome, less one)"
        rows += [
            ("outcome", words.loss(score["outcome"])),
            ("error", error),
            ("inside the interval", "yes" if score["inside"] else "no"),
            ("target started", score["started"]),
        ]
        if score.get("monitor"):
            rows.append(("watched", words.watched(score["monitor"])))
    return _table((), rows)


def _choices(content: Content) -> str:
    rows = [(c.name, c.value, c.range, c.source) for c in content.plan.choices]
    return _table(("", "value", "range", "from"), rows)


def _rungs(content: Content) -> str:
    plan = content.plan
    sizes = [(f"rung {i + 1}", r.recipe, len(r.seeds)) for i, r in enumerate(plan.rungs)]
    rows = []
    for name, recipe, runs in [*sizes, ("target", plan.target, 1)]:
        at, spent_on = recipe.model, cost(recipe)
        sizes_of = (at.width, at.depth, spent_on.parameters.total, recipe.tokens, recipe.batch)
        numbers = [f"{n:,}" for n in sizes_of]
        rows.append((name, *numbers, words.flop(spent_on.flops_total), str(runs)))
    head = ("", "width", "depth", "parameters", "tokens", "batch", "FLOP a run", "runs")
    return _table(head, rows, numbers=True, strong=1)


def _tuning(content: Content) -> str:
    if content.tuning is None:
        return ""
    tuning, check = content.tuning, content.tuning["check"]
    widths = check["widths"]
    rows = [
        (str(width), words.rate(lr), ", ".join(words.loss(loss) for loss in losses))
        for width, tried in zip(widths, (tuning["losses"], check["losses"]), strict=True)
        for lr, losses in tried
    ]
    best = tuning["optimum"]
    edge = f" It is at the {best['at_edge']} end of the rates tried." if best["at_edge"] else ""
    said = f"<p>{escape(words.transfer(tuning) + '.' + edge)}</p>"
    return said + _table(("width", "base learning rate", "loss of each seed"), rows)


def _bill(content: Content) -> str:
    paid, plan = spent(content), content.plan
    rows = [
        (
            part,
            words.flop(plan.flops[part]),
            words.flop(paid[part].flops),
            words.time(plan.seconds[part]),
            words.time(paid[part].seconds),
            str(paid[part].runs),
        )
        for part in words.PARTS
    ]
    whole = (
        "total",
        words.flop(words.total(plan.flops)),
        words.flop(sum(p.flops for p in paid.values())),
        words.time(words.total(plan.seconds)),
        words.time(sum(p.seconds for p in paid.values())),
        str(sum(p.runs for p in paid.values())),
    )
    head = ("", "FLOP planned", "FLOP spent", "time planned", "time spent", "runs done")
    return _table(head, [*rows, whole], numbers=True, strong=1)


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: bool = False,
    strong: int = 0,
) -> str:
    """A table; numbers stand to the right, the last `strong` rows are bold."""
    top = f"<thead>{_row(head, 'th', numbers)}</thead>" if head else ""
    first_strong = len(rows) - strong
    body = "".join(_row(row, "td", numbers, i >= first_strong) for i, row in enumerate(rows))
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>\n'


def _row(cells: Iterable[str], tag: str, numbers: bool, strong: bool = False) -> str:
    made = [
        f"<{tag}{' class=number' if numbers and i else ''}>{escape(cell)}</{tag}>"
        for i, cell in enumerate(cells)
    ]
    return f"<tr{' class=strong' if strong else ''}>{''.join(made)}</tr>\n"
