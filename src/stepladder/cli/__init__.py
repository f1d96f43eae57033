"""The command line: parse, call, print.

`stepladder VERB` imports only `stepladder.cli.VERB`, so that help is instant. A verb is one file
here with `def main(argv: list[str]) -> int`, and one line in `VERBS`.
"""

import os
import sys
from importlib import import_module

VERBS: dict[str, tuple[str, str]] = {
    # verb: (module, one line for --help)
    "demo": ("stepladder.cli.demo", "the whole story on text that is already on the machine"),
    "plan": ("stepladder.cli.plan", "a budget to a target recipe and its rungs"),
    "climb": ("stepladder.cli.climb", "the small runs, the fitted law, a written forecast"),
    "train": ("stepladder.cli.train", "the target, watched against its forecast; or any recipe"),
    "score": ("stepladder.cli.score", "forecast against outcome"),
    "compare": ("stepladder.cli.compare", "what a lever saves over a baseline, and with scale"),
    "search": ("stepladder.cli.search", "the best base hyperparameters, raced up a ladder"),
    "range": ("stepladder.cli.range", "a first learning rate, from one short run through all"),
    "runs": ("stepladder.cli.runs", "the runs that are paid for: list them, or show one"),
    "fit": ("stepladder.cli.fit", "a scaling law from your own runs, with honest intervals"),
    "forecast": ("stepladder.cli.forecast", "what a run will give, under a fitted law"),
    "curve": ("stepladder.cli.curve", "the rest of a loss curve, or it under another schedule"),
    "allocate": (
        "stepladder.cli.allocate",
        "the best parameters, tokens, experts, ... for a budget",
    ),
    "backtest": ("stepladder.cli.backtest", "would your cheap runs have told of the dear ones?"),
    "laws": ("stepladder.cli.laws", "every law: paper, constants, conventions, range"),
    "check": ("stepladder.cli.check", "does hyperparameter transfer hold for your torch model?"),
    "export": ("stepladder.cli.export", "a trained run as a Hugging Face transformers model"),
    "catalogue": ("stepladder.cli.catalogue", "every technique: paper, claim, what was measured"),
    "show": ("stepladder.cli.show", "learning-rate schedules as curves"),
}

INTERRUPTED, PIPE_CLOSED = 130, 141  # as shells count these signals
RESUMING = ("demo", "climb", "train", "compare", "search", "range")  # what they train is kept


def main(argv: list[str] | None = None) -> int:
    """Run one verb; the exit status is 0, 2 for bad input, or 130 for Ctrl-C."""
    _spin_briefly()
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        from stepladder.cli.help import print_help

        print_help(VERBS)
        return 0
    if argv[0] in ("-V", "--version"):
        from stepladder import __version__

        print(f"stepladder {__version__}")
        return 0
    return _run(argv[0], argv[1:])


def _spin_briefly() -> None:
    """How long threads that wait spin before they sleep, unless the user has said.

    Asleep at once, they make steps of small models 1.5 times as long; spinning as long as GNU's
    OpenMP lets them, they keep a shared machine's CPUs from others, and from each other. This long
    is as good as forever on a quiet machine, and as good as never on a busy one.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _run(verb: str, rest: list[str]) -> int:
    from stepladder.cli.console import fail

    if verb not in VERBS:
        from stepladder.names import did_you_mean

        return fail(f"there is no verb {verb!r}{did_you_mean(verb, VERBS)}; see stepladder --help")
    try:
        return int(import_module(VERBS[verb][0]).main(rest))
    except BrokenPipeError:  # the reader has seen enough, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
        return PIPE_CLOSED
    except (ValueError, OSError) as error:  # what a user can mend: the text says how
        return fail(str(error))
    except KeyboardInterrupt:
        kept = "; the same command resumes where it stopped" if verb in RESUMING else ""
        return fail(f"interrupted{kept}", INTERRUPTED)
