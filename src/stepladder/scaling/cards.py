"""The cards of this family: what each rule and initialisation claims, and who says so."""

from typing import Any

from stepladder.card import Card, Registry
from stepladder.scaling.aspect_ratio import optimal_aspect_ratio
from stepladder.scaling.bounds import interval_bound_std
from stepladder.scaling.compander import WeightCompander
from stepladder.scaling.coordinate import coordinate_check
from stepladder.scaling.criticality import critical_initialization
from stepladder.scaling.graphs import graph_scales
from stepladder.scaling.hypernetwork import Hypernetwork
from stepladder.scaling.munit import square_root_attention
from stepladder.scaling.optimizers import OPTIMIZERS
from stepladder.scaling.rules import RULES
from stepladder.scaling.sharing import SharedWeights
from stepladder.scaling.unit import UnitLinear

REGISTRY: Registry[Any] = Registry("stepladder.scaling")


def _card(name: str, member: Any, title: str, arxiv: str, claim: str, note: str = "") -> None:
    card = Card(name=name, family="scaling", title=title, arxiv=arxiv, claim=claim, note=note)
    REGISTRY.register(card)(member)


_EVERETT = ("Scaling Exponents Across Parameterizations and Optimizers", "2407.05872")
_TP4 = ("Feature Learning in Infinite-Width Neural Networks", "2011.14522")

_card(
    "sp-layerwise",
    RULES["sp-layerwise"],
    *_EVERETT,
    "per-layer rates make the standard parametrization transfer, and it beats muP",
    "alignment='none' gives the paper's other exponents. Adam-atan2 and epsilon in proportion to "
    "gradients (eps='gradient') are the paper's two cures for small gradients.",
)
_card("ntk", RULES["ntk"], *_EVERETT, "transfers once rates are per layer")
_card(
    "mean-field",
    RULES["mean-field"],
    *_EVERETT,
    "transfers once rates are per layer",
    "With the readout's no-alignment exponent that follows from muP's by the symmetry.",
)
_card(
    "abc",
    RULES["mup"],
    *_TP4,
    "of all powers of width, one set learns features as much as it can in every layer",
    "The three powers of a layer are `Exponents`; your own rule: `register_rule(Rule(...))`.",
)
_card(
    "mup",
    RULES["mup"],
    "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer",
    "2203.03466",
    "hyperparameters tuned on a narrow model are best for a wide one: 7% of pretraining cost tunes "
    "GPT-3 6.7B",
    "Agrees with the `mup` package on ten steps in float64 with SGD, Adam and AdamW.",
)
_card(
    "mup-at-scale",
    coordinate_check,
    "A Large-Scale Exploration of μ-Transfer",
    "2404.05728",
    "transfer holds for most settings to 10B parameters; the exceptions are named",
    "Its protocol is `transfer_check`; here with an interval for the drift and a verdict.",
)
_card(
    "depth-mup",
    RULES["depth-mup"],
    "Depthwise Hyperparameter Transfer in Residual Networks: Dynamics and Scaling Limit",
    "2309.16620",
    "residual branches over sqrt(depth), on top of muP, make rates transfer over depth as well",
    "With Adam the rate in blocks falls as 1 / sqrt(depth) (CompleteP's table at alpha = 1/2).",
)
_card(
    "completep",
    RULES["completep"],
    "Don't be lazy: CompleteP enables compute-efficient deep transformers",
    "2505.01618",
    "residual branches over depth: rates transfer over depth, and 12 to 34% of compute is saved",
)
_card(
    "u-mup",
    RULES["u-mup"],
    "u-μP: The Unit-Scaled Maximal Update Parametrization",
    "2407.17465",
    "better losses than muP, cheaper sweeps, and FP8 without care",
    "Agrees with the `unit-scaling` package on ten steps in float64. Its embedding rate falls with "
    "width, which the coordinate check reports as a layer that moves less and less.",
)
_card(
    "unit-scaling",
    UnitLinear,
    "Unit Scaling: Out-of-the-Box Low-Precision Training",
    "2303.11257",
    "activations, weights and gradients of size 1 fit 8 and 16 bits without loss scaling",
)
_card(
    "munit",
    RULES["munit"],
    "μnit Scaling: Simple and Scalable FP8 LLM Training",
    "2502.05967",
    "rates and decay transfer to 20 times the width, and all hidden layers train in FP8 at no loss",
    "`scaling/munit.py` has its layers and block. The residual share tau is given by depth in a "
    "figure only, so that it must be chosen.",
)
_card(
    "square-root-attention",
    square_root_attention,
    "μnit Scaling: Simple and Scalable FP8 LLM Training",
    "2502.05967",
    "attention over independent values keeps their variance at every position",
    "Its own paper does not train with it: values in text are not independent.",
)
_card(
    "effective-theory",
    RULES["effective-theory"],
    "Effective Theory of Transformers at Initialization",
    "2304.02034",
    "neural tangent scaling of rates improves vision transformers and spares spikes",
    "Features move less and less as the width grows, by design; the coordinate check says so.",
)
_card(
    "second-order",
    OPTIMIZERS["kfac"],
    "On the Parameterization of Second-Order Optimization Effective Towards the Infinite Width",
    "2312.12226",
    "under muP's initial scales K-FAC needs one rate for all layers and widths; Shampoo does not",
    "`optimizer='kfac'` and `'shampoo'` with rule='mup'. Powers as in the authors' code.",
)
_card(
    "stable-rps",
    SharedWeights,
    "In defense of parameter sharing for model-compression",
    "2310.11611",
    "hashed weights match or beat pruning at equal memory, and train at any initial scale",
    "The divisor of gradients is derived (least squares); the authors' code has several.",
)
_card(
    "weight-compander",
    WeightCompander,
    "Weight Compander: A Simple Weight Reparameterization for Regularization",
    "2306.16993",
    "bounding weights, and moving small ones more, improves generalization",
    "The arctangent is from a reading at second hand and its constants could not be confirmed: "
    "both sizes must be given.",
)
_card(
    "spectral",
    RULES["spectral"],
    "A Spectral Condition for Feature Learning",
    "2310.17813",
    "spectral norms of weights and updates at sqrt(fan_out / fan_in) are what muP does",
)
_card(
    "criticality",
    critical_initialization,
    "The Principles of Deep Learning Theory",
    "2106.10165",
    "initial variances at criticality cure exploding and vanishing gradients for any activation",
    "Solves for C_W and C_b.",
)
_card(
    "aspect-ratio",
    optimal_aspect_ratio,
    "The Principles of Deep Learning Theory",
    "2106.10165",
    "depth over width is a network's true complexity, and there is a best one",
    "20 + 3 n_out follows from a third-order expansion that a test redoes. With skips and "
    "activations that are not odd, fluctuations grow faster than by the book's formula as a reader "
    "coded it: derived here, and so in sampled networks.",
)
_card(
    "graph",
    graph_scales,
    "Principled Architecture-aware Scaling of Hyperparameters",
    "2402.17440",
    "initial values and rates from a network's graph alone; rankings of architectures change",
    "Formulas at second hand, from a reading of the public code.",
)
_card(
    "interval-bound",
    interval_bound_std,
    "Fast Certified Robust Training with Short Warmup",
    "2103.17268",
    "certified training in 160 epochs instead of thousands",
    "The initialisation only; the batch normalisation and warmup regulariser are not here.",
)
_card(
    "magnitude-invariant",
    Hypernetwork,
    "Magnitude Invariant Parametrizations Improve Hypernetwork Learning",
    "2304.07645",
    "hypernetworks converge faster and more stably in every task tried",
    "Formulas from a reading of the released code at second hand.",
)
