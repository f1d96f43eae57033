"""A true set of values and a range of inputs for every law of the library."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stepladder.laws.law import Array, Law
from stepladder.laws.parts import PF_DAY

Range = tuple[float, float]
NOISE = 1e-8  # residuals of exactly zero have no scale
N, D, C = (2e7, 2e9), (1e9, 1e11), (1e17, 1e21)
ROUTERS_E = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Case(NamedTuple):
    """Inputs are drawn evenly in the logarithm of `ranges`, or from `levels`; a range from zero
    is drawn evenly."""

    ranges: Mapping[str, Range]
    values: Mapping[str, float] | None = None  # the first published ones where none are given
    levels: Mapping[str, tuple[float, ...]] = {}
    points: int = 60


CASES: dict[str, Case] = {
    "average-params": Case({"params": N, "tokens": D},
                           {"E": 1.7, "A": 400.0, "alpha": 0.33, "B": 700.0, "beta": 0.3}),
    "broken": Case({"flops": (1e15, 1e23)}, {"E": 1.5, "A": 60.0, "c_0": 0.08, "c_1": 0.1,
                                             "d_1": 1e19, "f_1": 0.5}),
    "cerebras-gpt": Case({"flops": (2.6e18, 2.3e22)}),
    "coupled": Case({"params": (5e7, 1e10), "tokens": (1e9, 1e11)},
                    {"E": 1.8, "A": 0.35, "alpha": 0.35, "S": 2000.0, "beta": 0.36,
                     "scale_slope": -0.6, "exponent_slope": -0.06}, points=120),
    "coverage": Case({"samples": (1, 1e4)}, {"a": 2.0, "b": 0.3}),
    "data-filtering": Case({"samples": (1e5, 1e8)}, {"a": 2.0, "b": 0.12, "tau": 3.0, "d": 0.1},
                           {"pool": (1e6, 4e6, 1.6e7)}),
    "deepseek-batch": Case({"flops": (1e17, 2e19)}),
    "deepseek-lr": Case({"flops": (1e17, 2e19)}),
    "diloco": Case({"params": (35e6, 2.4e9)}, levels={"replicas": (1, 2, 4, 8)}),
    "diloco-batch": Case({"params": (35e6, 2.4e9)}, levels={"replicas": (1, 2, 4, 8)}),
    "diloco-lr": Case({"params": (35e6, 2.4e9)}, levels={"replicas": (1, 2, 4, 8)}),
    "downstream-error": Case({"loss": (2.2, 4.0)}, {"epsilon": 0.86, "k": 2.2, "gamma": 0.75}),
    "hestness": Case({"samples": (1e4, 1e9)}, {"E": 0.05, "A": 9.0, "alpha": 0.3}),
    "intrinsic-dimension": Case({"samples": (500, 2e4), "sharpness": (0.05, 0.5)}, {"A": 3.0},
                                {"dimension": (10, 20, 30)}),
    "jft-logarithm": Case({"samples": (1e6, 3e8)}, {"a": -0.2, "b": 0.07}),
    "joint-moe": Case({"params": (3e7, 3e9), "tokens": (1e9, 1e11)},
                      {"alpha": 0.2, "beta": 0.18, "gamma": 0.01, "zeta": 0.02, "delta": 0.2,
                       "omega": 0.4, "E_start": 1.8, "E_spread": 170.0, "E": 1.3, "A": 36.0,
                       "B": 36.0}, {"experts": (1, 2, 4, 8, 16, 32)}, points=240),
    "kaplan": Case({"params": (1e5, 1.5e9), "tokens": (2e7, 2e10)}),
    "kaplan-compute": Case({"flops": (1e-7 * PF_DAY, PF_DAY)}),
    "kaplan-critical-batch": Case({"loss": (2.2, 6.0)}),
    "kaplan-data": Case({"tokens": (2e7, 2e10)}),
    "kaplan-params": Case({"params": (1e5, 1.5e9)}),
    "kaplan-steps": Case({"params": (1e5, 1.5e9), "steps": (1e3, 1e6)}),
    "languini": Case({"seconds": (2e4, 4e5)}, {"E": 1.2, "A": 9.0, "alpha": 0.16}),
    "microscope": Case({"params": (1e4, 1e8)}, {"A": 9.0, "alpha": 0.12}),
    "moe-sparsity": Case({"params": (1e8, 3e10), "tokens": (1e9, 2e11)},
                         levels={"sparsity": (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)}, points=240),
    "mu-scaling": Case({"params": (8e6, 2e9)}, {"E": 2.6, "A": 400.0, "alpha": 0.33}),
    "observational": Case({"capability": (0.0, 6.0)}, {"alpha": -3.0, "beta": 0.9}),
    "optimal-size": Case({"flops": (6e18, 3e21)}),
    "overtraining": Case({"flops": C, "tokens_per_param": (5, 640)},
                         {"E": 1.8, "a": 60.0, "b": 300.0, "eta": 0.13}),
    "parallel-streams": Case({"params": (5e8, 5e9)},
                             {"E": 0.7, "scale": 36.0, "alpha": 0.19, "k": 0.39},
                             {"streams": (1, 2, 4, 8)}),
    "passuntil": Case({"params": (3e7, 3e9)}, {"c": 4e3, "alpha": 0.4}),
    "porian-batch": Case({"params": (2.5e7, 1.1e8)}),
    "porian-lr": Case({"params": (2.5e7, 1.1e8)}),
    "power-lines-batch": Case({"tokens": D}, {"c": 60.0, "gamma": 0.383}),
    "power-lines-timescale": Case({"tokens_per_param": (20, 1280)}, {"c": 1.1, "beta": 0.5}),
    "power-scheduler": Case({"batch": (65536, 2e6), "tokens": (2e9, 2.56e11)}),
    "precision": Case({"params": (3e7, 3e8), "tokens": (1.5e9, 2.6e10)},
                      {"E": 2.2, "A": 4e3, "B": 1.8e4, "alpha": 0.5, "beta": 0.45,
                       "gamma_weights": 2.7, "gamma_activations": 2.2, "gamma_cache": 0.9},
                      {"bits_weights": (3, 4, 6, 8, 16), "bits_activations": (3, 4, 6, 8, 16),
                       "bits_cache": (2, 3, 4, 8, 16)}, points=240),
    "projektor": Case({"samples": (1e3, 1e5), "distance": (0.0, 5.0)},
                      {"a0": 0.1, "b0": -0.02, "a1": 0.06, "b1": -0.001}),
    "quantization": Case({"params": (3e7, 3e8), "tokens": (1.5e9, 2.6e10)},
                         levels={"bits_stored": (3, 4, 5, 6)}),
    "rectified": Case({"samples": (100, 2e6)},
                      {"D_l": 3e3, "beta": 0.5, "E": 0.8, "B": 180.0}),
    "routed": Case({"params": (1.5e7, 1.3e9)}, levels={"experts": ROUTERS_E}, points=120),
    "step-law-batch": Case({"tokens": D}),
    "step-law-lr": Case({"params": N, "tokens": D}),
    "step-time": Case({"bytes_copied": (1e8, 1e12), "flops": (1e10, 1e15)},
                      {"t0": 1e-3, "per_byte": 3e-12, "per_flop": 2e-15}),
    "time-budget": Case({"params": N, "seconds": (1e3, 1e6), "tokens_per_second": (1e5, 1e6)},
                        {"E": 1.7, "A": 400.0, "alpha": 0.33, "B": 700.0, "beta": 0.3}),
    "time-transfer": Case({"tokens": D, "batch": (3e4, 3e7)},
                          {"B_1": 2e5, "kappa": 1.0, "gamma": 0.1, "c": 1e-4}, points=120),
    "token-horizon": Case({"params": N, "tokens": D}, {"c": 1e3, "alpha": 0.23, "beta": 0.32}),
    "trainable-params": Case({"trainable_params": (1e5, 1e8), "frozen_params": (1e5, 1e8)},
                             {"E": 1.5, "A": 20.0, "alpha": 0.2, "worth": 0.1}),
    "translation": Case({"encoder_params": (1e7, 1e9), "decoder_params": (1e7, 1e9)},
                        {"E": 1.1, "A": 300.0, "p_e": 0.18, "p_d": 0.3}),
    "tuning-surface": Case({"params": N, "tokens": D, "lr": (1e-4, 1e-2), "batch": (3e4, 4e6)},
                           {"E": 1.6, "A": 300.0, "alpha": 0.32, "B": 900.0, "beta": 0.32,
                            "lr_0": 0.2, "lr_N": -0.7, "lr_D": 0.1, "lr_B": 0.4, "B_0": -0.3,
                            "B_N": 0.05, "B_D": 0.5, "width_N": 0.1, "width_D": 0.1,
                            "H": 0.01, "G": 0.008}, points=400),
    "unraveling": Case({"params": (1e6, 1e9), "steps": (1e3, 1e5), "batch": (1e4, 1e7)},
                       points=120),
    "upcycling": Case({"params": N, "tokens": D, "dense_tokens": (1e9, 1e11),
                       "sparsity_factor": (2, 16)},
                      {"alpha": 0.3, "a": 0.1, "beta_1": 0.1, "beta_2": 0.5, "mixed": 0.01,
                       "E": 1.5, "A": 300.0, "B": 900.0}, points=240),
    "value-rl": Case({"utd": (0.25, 16)}, {"D_min": 1e5, "B": 4e5, "alpha": 0.8}),
    "value-rl-batch": Case({"utd": (0.25, 16)}, {"A": 512.0, "alpha": 0.4}),
    "value-rl-lr": Case({"utd": (0.25, 16)}, {"A": 1e-3, "alpha": 0.25}),
    "video-diffusion-batch": Case({"tokens": D, "params": N},
                                  {"A": 3e2, "beta": 0.4, "gamma": 0.1}),
    "video-diffusion-lr": Case({"tokens": D, "params": N},
                               {"A": 3.0, "beta": -0.2, "gamma": -0.3}),
    "visual-tokens": Case({"params": (5e8, 7e9), "visual_tokens": (1, 576)},
                          {"E": 0.1, "A": 2.0, "alpha": 0.077, "beta": 0.015}),
    "vocabulary": Case({"params": (3e7, 3e9), "vocab_params": (2e6, 3e8), "tokens": D},
                       points=120),
    "vocabulary-size": Case({"params": (3e7, 3e9), "characters": (1e9, 5e11)},
                            {"alpha": 0.45, "alpha_V": 0.67, "E": 5.5, "A_1": 880.0,
                             "A_2": 2000.0, "B": 8000.0},
                            {"vocab": (4096, 8192, 16384, 32768, 65536, 98304)}, points=240),
}  # fmt: skip


def draw(law: Law, case: Case, seed: int) -> tuple[dict[str, float], dict[str, Array]]:
    """True values, and a table of inputs with the target that they give, all but exactly."""
    rng = np.random.default_rng(seed)
    values = dict(case.values or law.published().values)
    inputs: dict[str, Array] = {}
    for name, (low, high) in case.ranges.items():
        even = rng.uniform(size=case.points)
        log = np.exp(np.log(max(low, 1e-300)) + even * np.log(high / max(low, 1e-300)))
        inputs[name] = log if low > 0 else low + even * (high - low)
    for name, levels in case.levels.items():
        inputs[name] = rng.choice(np.array(levels, dtype=np.float64), case.points)
    target = law.predict(values, inputs)
    return values, {**inputs, law.target: target * np.exp(NOISE * rng.normal(size=len(target)))}
