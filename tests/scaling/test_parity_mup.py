"""Against the `mup` package (Microsoft): the same networks train the same, to 1e-10 in float64.

`make test` installs it without its dependencies (requirements-no-deps.txt says why).
"""

import mup
import pytest
import torch
from scaling_networks import MLP, Decoder
from torch import nn

from stepladder.scaling import parametrize

BASE, WIDTH = 8, 32


class ResNet(nn.Module):
    """Two residual blocks of convolutions with batch normalisation."""

    def __init__(self, width, readout=nn.Linear):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
            )
            for _ in range(2)
        )
        self.head = readout(width, 5)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.relu().mean(dim=(2, 3)))


def mlp(width, readout=nn.Linear):
    net = MLP(width)
    net[4] = readout(width, 3)
    return net


def decoder(width, readout=nn.Linear):
    net = Decoder(width)
    net.head = readout(width, 23, bias=False)
    return net


def tied_decoder(width, readout=nn.Linear):
    net = Decoder(width, tied=readout is nn.Linear)
    if readout is not nn.Linear:
        net.head = mup.MuSharedReadout(net.embedding.weight, bias=False)
    return net


INPUTS = {
    mlp: lambda: (torch.randn(16, 6).double(), torch.randint(3, (16,))),
    decoder: lambda: (torch.randint(23, (4, 8)), torch.randint(23, (4, 8))),
    tied_decoder: lambda: (torch.randint(23, (4, 8)), torch.randint(23, (4, 8))),
    ResNet: lambda: (torch.randn(4, 3, 6, 6).double(), torch.randint(5, (4,))),
}
SETTINGS = {"lr": 1e-2, "weight_decay": 0.1}
OPTIMIZERS = {
    "sgd": (mup.MuSGD, torch.optim.SGD, {"momentum": 0.9}),
    "adam": (mup.MuAdam, torch.optim.Adam, {}),
    "adamw": (mup.MuAdamW, torch.optim.AdamW, {}),
}


def _theirs(build):
    torch.manual_seed(4)
    model = build(WIDTH, mup.MuReadout).double()
    bases = [build(n, mup.MuReadout).double() for n in (BASE, 2 * BASE)]
    # The package's rescaling would also multiply an embedding shared with the readout by
    # sqrt(width ratio), as if it had the default initial values of nn.Linear; ours leaves it.
    mup.set_base_shapes(model, bases[0], delta=bases[1], rescale_params=build is not tied_decoder)
    return model


def _ours(build):
    torch.manual_seed(4)
    return build(WIDTH).double()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("build", INPUTS)
def test_ten_steps_agree(build, optimizer):
    theirs, ours = _theirs(build), _ours(build)
    plan = parametrize(ours, base=build(BASE), rule="mup", optimizer=optimizer)
    plan.initialize()
    ours.readout_multiplier = plan.multipliers().get("head.weight", 1.0)
    their_class, our_class, extra = OPTIMIZERS[optimizer]
    their_optimizer = their_class(theirs.parameters(), **SETTINGS, **extra)
    our_optimizer = our_class(plan.param_groups(**SETTINGS, eps=_eps(optimizer)), **extra)
    torch.manual_seed(5)
    for step in range(10):
        x, y = INPUTS[build]()
        losses = []
        for model, opt in ((theirs, their_optimizer), (ours, our_optimizer)):
            opt.zero_grad()
            losses.append(nn.functional.cross_entropy(model(x).flatten(0, -2), y.flatten()))
            losses[-1].backward()
            opt.step()
        torch.testing.assert_close(*losses, rtol=1e-10, atol=0, msg=lambda m, s=step: f"{s}: {m}")
    assert any(record.lr != 1 for record in plan.table.values())


def _eps(optimizer):
    return None if optimizer == "sgd" else 1e-8


def test_rates_and_decays_are_the_packages():
    """Read from both optimizers' groups, for every parameter but the readout, whose multiplier
    the package keeps in the forward pass and we fold."""
    for optimizer, (their_class, _, extra) in OPTIMIZERS.items():
        theirs, ours = _theirs(decoder), _ours(decoder)
        names = {id(p): n for n, p in theirs.named_parameters()}
        groups = their_class(theirs.parameters(), **SETTINGS, **extra).param_groups
        settings = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
        plan = parametrize(ours, base=decoder(BASE), rule="mup", optimizer=optimizer)
        for group in plan.param_groups(**SETTINGS):
            for name in group["names"]:
                if name != "head.weight":
                    pair = (group["lr"], group["weight_decay"])
                    assert pair == pytest.approx(settings[name], rel=1e-12)
