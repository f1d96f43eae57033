"""Optimizers: torch's own, and those written here, behind one `build`.

    optimizer = build("lion", plan.param_groups(lr=3e-4, weight_decay=0.1), betas=(0.9, 0.99))

Parameter groups carry their own absolute `lr`, `weight_decay` and `eps`; what a group leaves out is
taken from the keywords. Every group gets an `initial_lr`, and the training loop sets
`lr = initial_lr * factor` before each step.

What every optimizer built here keeps:
- `step(closure)` takes the usual closure. Members whose step size depends on the loss (SMAG,
  SANIA) need it; the loop passes `lambda: loss` with gradients already computed, so the closure is
  called once and nothing is recomputed. Without one they raise ValueError.
- Non-finite gradients are not hidden: they make the parameters they touch non-finite, as in torch.
  Detecting divergence is the loop's work.
- Sparse gradients and complex parameters are refused, and so is the state of another optimizer.
- `evaluating(optimizer)` gives the weights to evaluate where they differ from those that gradients
  are taken at (Schedule-Free); it does nothing for the rest.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, Protocol

from torch.optim import Optimizer

from stepladder.card import Card, Registry
from stepladder.optim.guard import (
    Groups,
    check_betas,
    check_options,
    checked_groups,
    guard,
)


class Builder(Protocol):
    """The seam: makes an optimizer from checked groups. `None` means the method's own default."""

    def __call__(
        self,
        groups: Groups,
        /,
        *,
        lr: float,
        betas: tuple[float, float] | None,
        eps: float | None,
        weight_decay: float,
        **params: Any,
    ) -> Optimizer: ...


REGISTRY: Registry[Callable[..., Optimizer]] = Registry("stepladder.optim")
register = REGISTRY.register


def build(
    name: str,
    param_groups: Sequence[Any],
    *,
    lr: float,
    betas: tuple[float, float] | None = None,
    eps: float | None = None,
    weight_decay: float = 0.0,
    mode: str | None = None,
    **params: Any,
) -> Optimizer:
    """Build an optimizer by name.

    Args:
        name: as in `stepladder catalogue --family optim`.
        param_groups: parameters, or dictionaries with `params` and their own absolute rates.
        lr: peak learning rate of the groups that state none.
        betas: decay rates of the first and second moment; None: the method's own.
        eps: the term that keeps denominators from zero; None: the method's own.
        weight_decay: decoupled and multiplied by the rate (w <- w - lr * weight_decay * w) unless
            the member's card says otherwise.
        mode: how rules written here run: "foreach" (the default), "loop" or "compiled" (see
            `engine.RuleOptimizer`); optimizers of torch have their own kernels and ignore it.
        params: the method's own options.

    Raises:
        ValueError: an unknown name or option (with the nearest), an empty group, a complex,
            repeated or non-leaf parameter, a hyperparameter that is negative or not finite.
    """
    builder = REGISTRY[name]
    if mode is not None and "mode" in signature(builder).parameters:
        params = {**params, "mode": mode}
    check_options(name, builder, params)
    check_betas(name, betas)
    rates = {"lr": lr, "weight_decay": weight_decay} | ({} if eps is None else {"eps": eps})
    groups = checked_groups(name, param_groups, **rates)
    optimizer = builder(groups, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **params)
    return guard(name, optimizer)


def card(name: str) -> Card:
    """The card of an optimizer: its paper, scaling, and bytes and FLOPs per parameter."""
    return REGISTRY.card(name)


@contextmanager
def evaluating(optimizer: Optimizer) -> Iterator[None]:
    """Hold the weights that should be evaluated or saved for use in the parameters.

    Schedule-Free takes gradients at y but its answer is the average x; members that differ so have
    `enter_evaluation` and `leave_evaluation`. For every other optimizer this does nothing.
    """
    enter = getattr(optimizer, "enter_evaluation", None)
    if enter is None:
        yield
        return
    enter()
    try:
        yield
    finally:
        optimizer.leave_evaluation()  # type: ignore[attr-defined]
