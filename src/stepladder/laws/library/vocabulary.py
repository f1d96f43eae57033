"""Vocabulary: parameters in it fall under their own exponent, and text is counted in characters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from stepladder.laws.law import Array, Coefficient, Constants, Input, Law, Values, power
from stepladder.laws.parts import exponent
from stepladder.laws.registry import register

TITLE = "Scaling Laws with Vocabulary: Larger Models Deserve Larger Vocabularies"
ARXIV = "2407.13623"
COMPRESSION = (0.00639222, -0.15811069, 1.20470122)  # of log V squared, log V, 1
LARGEST = 200_000.0  # vocabulary beyond which the paper's compression is held
MILLION, BILLION = 1e6, 1e9
LEAST = 0.05  # below this the vocabulary term is a logarithm, which the floor cancels
# widths of the paper's models, by parameters outside the vocabulary up to each bound
WIDTHS = ((5e7, 512), (2e8, 768), (5e8, 1024), (1e9, 1536), (2e9, 2048), (5e9, 3200),
          (1e10, 4096), (2e10, 5120), (5e10, 6048), (1e11, 8192))  # fmt: skip


def tokens_per_character(vocabulary: ArrayLike) -> Array:
    """How many tokens a character makes: a parabola in log V (the paper's public code, D_to_H)."""
    log_v = np.log(np.minimum(np.asarray(vocabulary, dtype=np.float64), LARGEST))
    return np.asarray(np.polyval(COMPRESSION, log_v))


def width(params: ArrayLike) -> Array:
    """Width of the paper's model with so many parameters outside the vocabulary."""
    bounds, widths = zip(*WIDTHS, strict=True)
    at = np.searchsorted(bounds, np.asarray(params, dtype=np.float64))
    return np.asarray(widths, dtype=np.float64)[np.minimum(at, len(widths) - 1)]


def _columns(p: Values, x: Values) -> Sequence[ArrayLike]:
    return (
        -1.0,
        power(x["params"], -p["alpha"]),
        power(x["vocab_params"], -p["alpha_V"]),
        power(x["tokens"], -p["alpha"]),
    )


def _compute(x: Mapping[str, ArrayLike]) -> Array:
    params = np.asarray(x["params"]) + np.asarray(x["vocab_params"])
    return np.asarray(6.0 * params * np.asarray(x["tokens"]))


VOCABULARY = register(
    Law(
        name="vocabulary",
        title=TITLE,
        arxiv=ARXIV,
        form="L_u = -E + A_1 / N_nv^alpha + A_2 / N_v^alpha_V + B / D^alpha",
        inputs=(
            Input(name="params", meaning="parameters outside the vocabulary", falls=True),
            Input(name="tokens", meaning="training tokens", falls=True),
            Input(name="vocab_params", meaning="vocabulary times width", low=1.0),
        ),
        target="loss_unigram",
        signed=True,
        parameters=(
            exponent("alpha", "other parameters, and of tokens"),
            exponent("alpha_V", "vocabulary parameters", search=(0.1, 1.2), low=LEAST),
        ),
        coefficients=(
            Coefficient(name="E", meaning="how far below the unigram model loss can go"),
            Coefficient(name="A_1", meaning="scale of the other parameters"),
            Coefficient(name="A_2", meaning="scale of the vocabulary"),
            Coefficient(name="B", meaning="scale of the data term"),
        ),
        columns=_columns,
        compute=_compute,
        constants=(
            Constants(
                label="tao",
                values={
                    "alpha": 0.44660634, "alpha_V": 0.67073747,
                    "E": 5.53278468,
                    "A_1": 1.83138516 * MILLION**0.44660634,
                    "A_2": 0.19584238 * MILLION**0.67073747,
                    "B": 2.12411231 * BILLION**0.44660634,
                },
                source="arXiv:2407.13623, section 4.3; sail-sg/scaling-with-vocab",
                convention="the code counts millions of parameters and billions of tokens",
                valid={"params": (33e6, 3e9), "vocab_params": (4096 * 512, 98304 * 3200)},
            ),
        ),
        note="One exponent for other parameters and tokens, as the paper imposes. Loss less that "
        "of a unigram model, so that vocabularies compare; it is negative.",
    )
)  # fmt: skip


def _sizes(x: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """The vocabulary law's inputs, of characters and a vocabulary's size."""
    params, vocab = np.asarray(x["params"]), np.asarray(x["vocab"])
    return {
        "params": params,
        "vocab_params": vocab * width(params),
        "tokens": np.asarray(x["characters"]) * tokens_per_character(vocab),
    }


def _by_size(p: Values, x: Values) -> Sequence[ArrayLike]:
    return _columns(p, _sizes(x))


def _compute_by_size(x: Mapping[str, ArrayLike]) -> Array:
    return _compute(_sizes(x))


register(
    replace(
        VOCABULARY,
        name="vocabulary-size",
        form="the vocabulary law with N_v = V width(N_nv), D = H tokens_per_character(V)",
        inputs=(
            Input(name="params", meaning="parameters outside the vocabulary", falls=True),
            Input(name="characters", meaning="characters of training text", falls=True),
            Input(name="vocab", meaning="size of the vocabulary", low=2.0),
        ),
        columns=_by_size,
        compute=_compute_by_size,
        constants=(),
        note="For tables that count characters and no width: widths and compression are the "
        "paper's.",
    )
)
