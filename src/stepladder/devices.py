"""Devices that a run is priced on: named ones from their datasheets, and the one here, measured.

A rate that depends on size is a curve: points of (size, rate), interpolated between and held
constant beyond. No torch: measuring is `stepladder.calibration`, imported when "here" is asked for.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stepladder.names import did_you_mean

Curve = tuple[tuple[float, float], ...]

HERE = "here"
TERA, GIGA = 1e12, 1e9

# A large dense bfloat16 product reached 802 TFLOP/s on one H200, of 989 in its datasheet; the same
# share is assumed of every named device.
MATMUL_SHARE = 0.81
# Streaming kernels reach about nine tenths of the memory's nominal rate (assumed, unconfirmed).
BANDWIDTH_SHARE = 0.9
# FlashAttention-2 reaches 35% of the peak on an H100 (Shah et al. 2024, arXiv 2407.08608). It skips
# the masked half and recomputes the scores, doing 3.5/6 of what the full square counts.
ATTENTION_SHARE = 0.35 * 6 / 3.5
GPU_LAUNCH = 5e-6  # seconds to launch one kernel from Python (assumed, unconfirmed)
# Operations that one block, and the rest of the model, launch in a forward pass; three times that
# with the backward pass. Compiled programs launch fused kernels: fewer.
BLOCK_OPERATIONS, OTHER_OPERATIONS = 40, 20
PASSES = 3
FUSED_SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a device can do.

    Attributes:
        memory: bytes.
        matmul: precision -> FLOP/s over the size of a square weight matrix.
        attention: precision -> FLOP/s over the context, forward and backward, counting the full
            square of scores.
        bandwidth: bytes/s over the bytes that one operation touches.
        elementwise: bytes/s of norms, activations and sums, forward and backward, over the width.
        loss: bytes/s of a cross-entropy, forward and backward, over the bytes of its logits.
        step_launch: seconds that launching a step's operations takes, forward and backward, but
            for those of its blocks.
        block_launch: seconds that launching those of one block takes.
        asynchronous: whether launches overlap with the work (a GPU's queue).
        compiled: whether training there runs fused kernels.
        pace: what the work of a real step takes over the sum of its parts, over the width.
        start: seconds of a run before its first step and after its last.
        source: where the figures are from.
    """

    name: str
    memory: float
    matmul: Mapping[str, Curve]
    attention: Mapping[str, Curve]
    bandwidth: Curve
    elementwise: Curve
    loss: Curve
    step_launch: float
    block_launch: float
    asynchronous: bool
    compiled: bool
    source: str
    pace: Curve = ((1.0, 1.0),)
    start: float = 0.0

    def matmul_rate(self, precision: str, size: float) -> float:
        """FLOP/s of products with a square weight matrix of this size.

        Raises:
            ValueError: the device has no figure for the precision.
        """
        return interpolate(self._curve(self.matmul, precision), size)

    def attention_rate(self, precision: str, context: int) -> float:
        """FLOP/s of attention at this context; same errors."""
        return interpolate(self._curve(self.attention, precision), context)

    def _curve(self, curves: Mapping[str, Curve], precision: str) -> Curve:
        if precision not in curves:
            known = ", ".join(sorted(curves))
            raise ValueError(f"{self.name} has no rate for {precision}: use one of {known}")
        return curves[precision]


def interpolate(curve: Curve, size: float) -> float:
    """The curve at `size`: linear in the logarithms, constant outside its points."""
    sizes = [point[0] for point in curve]
    index = bisect_left(sizes, size)
    if index == 0 or index == len(curve):
        return curve[min(index, len(curve) - 1)][1]
    (low, below), (high, above) = curve[index - 1], curve[index]
    share = math.log(size / low) / math.log(high / low)
    return below * (above / below) ** share


def increasing(curve: Curve) -> bool:
    """Whether the sizes of a curve increase strictly and its rates are positive."""
    return all(a[0] < b[0] for a, b in pairwise(curve)) and all(rate > 0 for _, rate in curve)


def launches(seconds: float) -> tuple[float, float]:
    """A GPU's `step_launch` and `block_launch`, from the seconds that one kernel takes."""
    one = PASSES * FUSED_SHARE * seconds
    return OTHER_OPERATIONS * one, BLOCK_OPERATIONS * one


def _gpu(
    name: str, *, bfloat16: float, float32: float, gigabytes: float, bandwidth: float, source: str
) -> Device:
    """A GPU from its datasheet: dense TFLOP/s (without sparsity), GB, GB/s."""
    peaks = {"bfloat16": bfloat16 * TERA, "float32": float32 * TERA}
    streaming: Curve = ((1.0, BANDWIDTH_SHARE * bandwidth * GIGA),)
    return Device(
        name=name,
        memory=gigabytes * GIGA,
        matmul={p: ((1.0, MATMUL_SHARE * peak),) for p, peak in peaks.items()},
        attention={p: ((1.0, ATTENTION_SHARE * peak),) for p, peak in peaks.items()},
        bandwidth=streaming,
        elementwise=streaming,
        loss=streaming,
        step_launch=launches(GPU_LAUNCH)[0],
        block_launch=launches(GPU_LAUNCH)[1],
        asynchronous=True,
        compiled=True,
        source=source,
    )


NAMED: dict[str, Device] = {
    device.name: device
    for device in (
        _gpu(
            "b200",
            bfloat16=2250,
            float32=75,
            gigabytes=180,
            bandwidth=7700,
            source="NVIDIA HGX B200 datasheet",
        ),
        _gpu(
            "h200-sxm",
            bfloat16=989.5,
            float32=67,
            gigabytes=141,
            bandwidth=4800,
            source="NVIDIA H200 datasheet, SXM",
        ),
        _gpu(
            "h100-sxm",
            bfloat16=989.5,
            float32=67,
            gigabytes=80,
            bandwidth=3350,
            source="NVIDIA H100 datasheet, SXM",
        ),
        _gpu(
            "h100-pcie",
            bfloat16=756.5,
            float32=51,
            gigabytes=80,
            bandwidth=2000,
            source="NVIDIA H100 datasheet, PCIe",
        ),
        _gpu(
            "a100-80gb",
            bfloat16=312,
            float32=19.5,
            gigabytes=80,
            bandwidth=2039,
            source="NVIDIA A100 datasheet, 80 GB SXM",
        ),
        _gpu(
            "a100-40gb",
            bfloat16=312,
            float32=19.5,
            gigabytes=40,
            bandwidth=1555,
            source="NVIDIA A100 datasheet, 40 GB SXM",
        ),
        _gpu(
            "l40s",
            bfloat16=362,
            float32=91.6,
            gigabytes=48,
            bandwidth=864,
            source="NVIDIA L40S datasheet",
        ),
        _gpu(
            "l4",
            bfloat16=121,
            float32=30.3,
            gigabytes=24,
            bandwidth=300,
            source="NVIDIA L4 datasheet",
        ),
        _gpu(
            "rtx-4090",
            bfloat16=165.2,
            float32=82.6,
            gigabytes=24,
            bandwidth=1008,
            source="NVIDIA Ada architecture whitepaper, float32 accumulation",
        ),
    )
}
ALIASES = {"h100": "h100-sxm", "h200": "h200-sxm", "a100": "a100-80gb", "4090": "rtx-4090"}


def device_named(name: str, *, here: Sequence[str] = (HERE,)) -> Device:
    """A device by name; "here" is measured once per machine and cached.

    Args:
        here: what the caller's users call devices of this machine, for the message.

    Raises:
        ValueError: no such device; the text names the nearest.
    """
    plain = name.strip().lower().replace(" ", "-").replace("_", "-")
    if plain == HERE:
        from stepladder.calibration import measured

        return measured()
    plain = ALIASES.get(plain, plain)
    if plain not in NAMED:
        known = [*here, *NAMED]
        near = did_you_mean(plain, [*known, *ALIASES])
        raise ValueError(f"there is no device {name!r}{near}; it is one of {', '.join(known)}")
    return NAMED[plain]
