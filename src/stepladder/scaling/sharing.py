"""All weight matrices of a model read from one short array: compression at the start of training.

Desai & Shrivastava 2024, *In defense of parameter sharing for model-compression* (arXiv
2310.11611): ROAST made stable. Weight j is a sign times its layer's scale times a number of the
array, W_j = s_j lambda_j M[h(j)].

Places (the paper's RandomFold): all weights in a row are cut into pieces as long as the array, and
each piece is laid over it from a random place on, around its end. So all numbers are used equally
often, but for the last piece, and an array as long as the weights is the model itself.

Rescaled gradients: what a plain step does depends on the scale M was drawn with. Divided by the sum
of lambda_j^2 over the weights that share a number, a step of SGD is that of the unshared model,
projected on the weights that sharing allows. Here M is stored times the root of that sum, where
plain gradients do just this: nothing to rescale, and no scale to choose. (Derived: the authors'
released code has several divisors, this one among them, and does not say which is the paper's.)
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class SharedWeights(nn.Module):
    """A model whose weight matrices are read from `size` trained numbers; called as the model is.

    The rest (biases, gains) stays with the model, whose matrices are emptied. Layers keep the
    initial scale that they came with. The state holds the numbers and a scale for each layer;
    places and signs follow from the seed.

    Args:
        model: the model to compress.
        size: how many numbers there are; at most as many as there are weights.
        seed: of places, signs and values.

    Raises:
        ValueError: no such size, no weight matrices, or one that starts at 0 and has no scale.
    """

    def __init__(self, model: nn.Module, size: int, *, seed: int = 0) -> None:
        super().__init__()
        matrices = {name: p.detach() for name, p in model.named_parameters() if p.dim() > 1}
        count = sum(matrix.numel() for matrix in matrices.values())
        if not 1 <= size <= count:
            raise ValueError(f"size is from 1 to the {count} weights there are, not {size}")
        generator = torch.Generator().manual_seed(seed)
        places = fold_places(count, size, generator)
        signs = 2.0 * torch.randint(2, (count,), generator=generator) - 1
        drawn = torch.randn(size, generator=generator, dtype=torch.float64)
        like = next(iter(matrices.values()))
        self.shapes = {name: matrix.shape for name, matrix in matrices.items()}
        self.layer_scales: Tensor  # kept with the state: the rest follows from them and the seed
        self.places: Tensor
        self.scales: Tensor
        own = torch.cat([_scale_of(name, matrix) for name, matrix in matrices.items()])
        self.register_buffer("layer_scales", own)
        self.register_buffer("places", places.to(like.device), persistent=False)
        self.register_buffer("scales", signs.to(like), persistent=False)
        norms = self._set_scales()
        self.shared = nn.Parameter(drawn.to(norms).mul_(norms).to(like))
        self.model = _emptied(model)
        self.register_load_state_dict_post_hook(_loaded)

    def _set_scales(self) -> Tensor:
        """From the layers' scales to every weight's; returns the numbers' norms, in float64."""
        counts = torch.tensor([shape.numel() for shape in self.shapes.values()])
        stds = self.layer_scales.repeat_interleave(counts.to(self.layer_scales.device))
        size = int(self.places.max()) + 1
        norms = stds.new_zeros(size).scatter_add_(0, self.places, stds**2).sqrt()
        self.scales.copy_(self.scales.sign() * stds / norms[self.places])
        return norms

    def weights(self) -> dict[str, Tensor]:
        """The weight matrices as the model uses them, by name."""
        flat = self.shared[self.places] * self.scales
        pieces = flat.split([shape.numel() for shape in self.shapes.values()])
        named = zip(self.shapes.items(), pieces, strict=True)
        return {name: piece.view(shape) for (name, shape), piece in named}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own forward pass, with the shared weights."""
        return functional_call(self.model, self.weights(), args, kwargs)


def _loaded(module: SharedWeights, _: object) -> None:
    module._set_scales()


def fold_places(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Where each of `count` weights reads from an array of `size`: integers [count]."""
    starts = torch.randint(size, (-(-count // size),), generator=generator)
    at = torch.arange(count)
    return (starts[at // size] + at) % size


def _scale_of(name: str, matrix: Tensor) -> Tensor:
    """A layer's own initial scale, in float64, [1]."""
    rms = matrix.double().square().mean().sqrt().reshape(1)
    if not float(rms) > 0:
        raise ValueError(f"{name} starts at 0 and has no scale to keep: draw its values first")
    return rms


def _emptied(model: nn.Module) -> nn.Module:
    """The model with nothing in its matrices; tied ones stay tied."""
    empty: dict[int, nn.Parameter] = {}
    for owner, local, parameter in list(_matrices(model)):
        stand_in = nn.Parameter(parameter.detach().new_empty(0), requires_grad=False)
        setattr(owner, local, empty.setdefault(id(parameter), stand_in))
    return model


def _matrices(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for module in model.modules():
        for local, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter.dim() > 1:
                yield module, local, parameter
