"""Many trials of the user's own module as one program, against each alone."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stepladder import Trial, optim, train_many
from stepladder.train.stacked.masks import Masks

WIDTH, VOCAB = 16, 32


@pytest.fixture(autouse=True)
def fresh():
    """Other inputs at every run of the tests; float64 for all modules."""
    torch.seed()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def loss(model, batch):
    x, y = batch
    out = model(x)
    out = getattr(out, "logits", out)
    return F.cross_entropy(out.flatten(0, -2), y.flatten())


def vectors():
    return torch.randn(8, 12), torch.randint(5, (8,))


def images():
    return torch.randn(4, 3, 6, 6), torch.randint(5, (4,))


def tokens():
    x = torch.randint(VOCAB, (3, 9))
    return x[:, :-1], x[:, 1:]


def mlp(p=0.0):
    layers = [nn.Linear(12, WIDTH), nn.ReLU(), nn.Dropout(p), nn.Linear(WIDTH, WIDTH), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 5))


def conv():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.GroupNorm(4, 8),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.Conv2d(8, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        nn.Linear(32, 5),
    )


class Encoder(nn.Module):
    """torch's own layers, with their dropout (of attention too), and a tied head."""

    def __init__(self, p=0.1):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=p, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.body(self.embedding(x), mask=mask, is_causal=True))


def llama(**changes):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": VOCAB}
    config = transformers.LlamaConfig(**sizes, **heads, **changes)
    return transformers.LlamaForCausalLM(config)


def make(build, lr, seed, name="adamw", **settings):
    torch.manual_seed(seed)
    model = build()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1 + 0.1 * seed)  # another scale of initial values
    return model, optim.build(name, list(model.parameters()), lr=lr, **settings)


def varied(build, batch, *, count=4, steps=50, name="adamw", lr=0.003, **more):
    """Trials that differ in all that may differ."""
    feeds = [[batch() for _ in range(3 + i)] for i in range(count)]
    return [
        Trial(
            make=partial(
                make, build, lr * (1 + i), i, name,
                weight_decay=0.1 * i, betas=(0.8 + 0.03 * i, 0.9 + 0.02 * i), eps=10.0 ** (i - 8),
            ),
            batches=feeds[i],
            steps=steps + 3 * i,
            rate=slow_rate if i % 2 else None,
            clip=(1.0, math.inf, 0.5)[i % 3],
            seed=i,
            label=f"trial {i}",
            **more,
        )
        for i in range(count)
    ]  # fmt: skip


def slow_rate(step):
    return 1 / (1 + step)


def alone(trials, given=loss):
    return [train_many([trial], loss=given)[0] for trial in trials]


def assert_alike(ours, theirs, rel=1e-9):
    for one, other in zip(ours, theirs, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=rel, nan_ok=True)


# Curves -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "batch", "steps"),
    [
        (mlp, vectors, 50),
        (partial(mlp, 0.3), vectors, 50),
        (conv, images, 50),
        (Encoder, tokens, 50),
        (llama, tokens, 50),
        (partial(llama, attention_dropout=0.2, attn_implementation="eager"), tokens, 12),
    ],
)
def test_every_curve_is_that_of_the_trial_alone(build, batch, steps):
    """Three of four at a time, so that one enters when another has left."""
    trials = varied(build, batch, steps=steps)
    found, expected = train_many(trials, loss=loss, room=3), alone(trials)
    assert [outcome.alone for outcome in found] == [""] * 4
    assert all(outcome.alone for outcome in expected)
    assert_alike(found, expected)
    assert [len(outcome.losses) for outcome in found] == [trial.steps for trial in trials]
    assert found[0].losses[0] != found[1].losses[0]


@pytest.mark.parametrize("name", ["adam", "sgd", "lion", "muon", "lamb", "adafactor"])
def test_any_optimizer(name):
    """One update for all rows, or a step a trial; rates, decay and betas of each its own."""
    trials = varied(mlp, vectors, count=3, steps=20, name=name, lr=0.002)
    assert_alike(train_many(trials, loss=loss), alone(trials))


def test_torch_optimizers_with_settings_of_their_own():
    """What no rule stands for steps trial by trial; parameter groups have their own rates."""

    def make(kind, lr, **settings):
        torch.manual_seed(3)
        model = mlp()
        groups = [{"params": model[0].parameters(), "lr": lr}, {"params": model[5].parameters()}]
        return model, kind(groups, lr=2 * lr, **settings)

    for kind, settings in [
        (torch.optim.AdamW, {"amsgrad": True}),
        (torch.optim.AdamW, {"maximize": True}),
        (torch.optim.Adam, {"decoupled_weight_decay": True, "weight_decay": 0.1}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        (torch.optim.SGD, {"momentum": 0.9, "dampening": 0.5}),
        (torch.optim.SGD, {}),
        (torch.optim.RMSprop, {}),
    ]:
        feed = [vectors() for _ in range(3)]
        trials = [
            Trial(make=partial(make, kind, lr, **settings), batches=feed, steps=8)
            for lr in (0.001, 0.01)
        ]
        assert_alike(train_many(trials, loss=loss), alone(trials))


# Apart --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_that_diverges_changes_no_bit_of_the_others(dtype):
    torch.set_default_dtype(dtype)
    trials = varied(partial(mlp, 0.2), vectors, count=5, steps=12)
    calm = train_many(trials, loss=loss)
    wild = Trial(make=partial(blown_up, trials[1].make), batches=trials[1].batches, steps=20)
    found = train_many([trials[0], wild, *trials[2:]], loss=loss)
    assert found[1].diverged
    assert len(found[1].losses) < 20
    assert found[1].measured is None
    assert [o.losses for o in (found[0], *found[2:])] == [o.losses for o in (calm[0], *calm[2:])]


def blown_up(make):
    """A model that is fine at first and infinite after a step."""
    model, optimizer = make()
    for group in optimizer.param_groups:
        group["lr"] = 1e30
    return model, optimizer


def test_those_that_are_not_alike_have_programs_of_their_own():
    """Widths, dropout, activations, closures and batches; the order of outcomes is that asked."""

    class Scaled(nn.Module):
        def __init__(self, factor, hidden):
            super().__init__()
            self.layer, self.by = nn.Linear(12, 5), lambda x: factor * x
            self.hidden = hidden

        def forward(self, x):
            return self.by(self.layer(x)) * self.hidden.value

    class Hidden:
        def __init__(self, value):
            self.value = value

    builds = [
        mlp,
        partial(mlp, 0.4),
        lambda: nn.Sequential(nn.Linear(12, 5), nn.ReLU()),
        lambda: nn.Sequential(nn.Linear(12, 5), nn.Tanh()),
        lambda: nn.Sequential(nn.Linear(12, 5, bias=False), nn.Tanh()),
        lambda: Scaled(1.0, Hidden(1.0)),
        lambda: Scaled(3.0, Hidden(1.0)),
        lambda: Scaled(3.0, Hidden(2.0)),  # not to be seen from outside: its loss tells
    ]
    trials = [varied(build, vectors, count=1, steps=6)[0] for build in builds * 2]
    found = train_many(trials, loss=loss)
    assert_alike(found, alone(trials))
    assert not any(outcome.alone for outcome in found)


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (lambda self, x: self.layer(x) + torch.randn(5), "randomness"),
        (lambda self, x: self.layer(x) * (2 if self.layer.bias.sum() > 0 else 1), "data-dependent"),
        (lambda self, x: self.layer(x) * self.layer.bias[0].item(), "item"),
        (lambda self, x: self.layer(x) * counted(self), "replaces the buffer count"),
    ],
)
def test_what_cannot_be_stacked_is_said_and_runs_alone(forward, said):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(12, 5)
            self.register_buffer("count", torch.ones(()))

    Odd.forward = forward
    trials = varied(Odd, vectors, count=3, steps=5)
    with pytest.warns(UserWarning, match=f"3 trials ran one by one: .*{said}"):
        found = train_many(trials, loss=loss)
    for trial, outcome in zip(trials, found, strict=True):
        assert said in outcome.alone
        torch.manual_seed(trial.seed)
        if said != "randomness":
            assert outcome.losses == by_hand(trial)


def counted(module):
    module.count = module.count + 1
    return module.count


def by_hand(trial):
    """As anyone would train it."""
    (model, optimizer), losses = trial.make(), []
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(trial.steps):
        for group, lr in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = lr * (trial.rate(step) if trial.rate else 1.0)
        optimizer.zero_grad()
        value = loss(model, trial.batches[step % len(trial.batches)])
        value.backward()
        if trial.clip < math.inf:
            nn.utils.clip_grad_norm_(model.parameters(), trial.clip)
        optimizer.step()
        losses.append(value.item())
    return losses


def test_a_stack_is_what_anyone_would_train_by_hand():
    """No code of ours in the reference."""
    trials = varied(mlp, vectors, steps=50)
    found = train_many(trials, loss=loss)
    for trial, outcome in zip(trials, found, strict=True):
        assert outcome.losses == pytest.approx(by_hand(trial), rel=1e-9)


def test_buffers_and_frozen_parameters_are_each_trials_own():
    """Running statistics are those of the trial alone, and so is what is not trained."""

    def frozen():
        model = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 5))
        model[0].requires_grad_(False)
        return model

    trials = varied(frozen, vectors, count=3, steps=9, measure=nn.Module.state_dict)
    for one, other in zip(train_many(trials, loss=loss), alone(trials), strict=True):
        assert one.measured.keys() == other.measured.keys()
        for name, value in other.measured.items():
            torch.testing.assert_close(one.measured[name], value, rtol=1e-9, atol=1e-12)


def test_the_trained_model_has_memory_of_its_own():
    """It may be kept, and goes on training as any."""
    kept = []

    def keep(model):
        kept.append(model)
        return total(model)

    trials = varied(mlp, vectors, count=3, steps=4, measure=keep)
    found = train_many(trials, loss=loss)
    assert len(kept) == 3
    for model in kept:
        for p in model.parameters():
            assert p.untyped_storage().nbytes() == p.nbytes
        loss(model, vectors()).backward()
    assert [outcome.measured for outcome in found] == [total(model) for model in kept]


def total(model):
    return sum(p.sum().item() for p in model.parameters())


# Words --------------------------------------------------------------------------------------------


def test_the_users_own_errors_name_the_trial():
    good, bad = varied(mlp, vectors, count=2, steps=4)

    def fail(*_):
        raise KeyError("mine")

    for broken in ({"make": fail}, {"measure": fail}, {"batches": [(torch.ones(2, 3),) * 2]}):
        trial = Trial(**{**vars(bad), **broken})
        with pytest.raises((KeyError, RuntimeError)) as caught:
            train_many([good, trial], loss=loss)
        assert "in trial trial 1" in caught.value.__notes__


def test_batches_are_checked_as_they_come():
    def trial(batches):
        return Trial(make=partial(make, mlp, 0.01, 0), batches=batches, steps=5, label="a")

    good = [vectors() for _ in range(5)]
    short = vectors()
    odd = [*good[:2], (short[0][:3], short[1][:3])]
    for batches, said in [
        (iter(good[:3]), "its batches ended after 3 of 5 steps"),
        (odd, "its batch of step 2 has another shape"),
        ([3, 4], "a batch is a int without tensors"),
        ([], "its batches ended after 0 of 5"),
    ]:
        with pytest.raises(ValueError, match=said):
            train_many([trial(good), trial(batches)], loss=loss)


@pytest.mark.parametrize("batch", ["tuple", "dict", "nested"])
def test_batches_of_any_make(batch):
    def made():
        x, y = vectors()
        return {"tuple": (x, y), "dict": {"x": x, "y": y}, "nested": {"a": [x, 3], "b": (y,)}}[
            batch
        ]

    def own(model, given):
        leaves = list(given.values()) if isinstance(given, dict) else list(given)
        x = leaves[0] if batch != "nested" else leaves[0][0]
        y = leaves[1] if batch != "nested" else leaves[1][0]
        return F.cross_entropy(model(x), y)

    trials = varied(mlp, made, count=3, steps=6)
    assert_alike(train_many(trials, loss=own), alone(trials, own))


def test_nonsense_is_refused():
    good = varied(mlp, vectors, count=1)[0]
    with pytest.raises(ValueError, match="room must be 1 or more, not 0"):
        train_many([good], room=0)
    with pytest.raises(ValueError, match="1 step or more, not 0"):
        Trial(**{**vars(good), "steps": 0})
    with pytest.raises(ValueError, match="clip must be above 0"):
        Trial(**{**vars(good), "clip": 0.0})
    with pytest.raises(ValueError, match=r"loss must return one number, not .*\(8, 5\)"):
        train_many([good], loss=lambda model, batch: model(batch[0]))
    other = Trial(**{**vars(good), "make": lambda: (mlp(), torch.optim.SGD(mlp().parameters()))})
    with pytest.raises(ValueError, match="a parameter that is not the model's"):
        train_many([other, other], loss=loss)
    assert train_many([]) == []


# Dropout ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_masks_keep_as_many_as_they_should(p):
    count = 40_000
    with Masks(torch.tensor(torch.randint(2**32, ()).item())):
        out = F.dropout(torch.ones(count), p)
        again = F.dropout(torch.ones(count), p)
    kept = out > 0
    assert abs(kept.double().mean() - (1 - p)) <= 5 * math.sqrt(p * (1 - p) / count)
    assert out[kept].tolist() == pytest.approx([1 / (1 - p)] * int(kept.sum()) if p < 1 else [])
    if 0 < p < 1:  # other calls, neighbours and keys are independent
        both = (kept & (again > 0)).double().mean()
        assert abs(both - (1 - p) ** 2) < 5 / math.sqrt(count)
        pairs = (kept[1:] & kept[:-1]).double().mean()
        assert abs(pairs - (1 - p) ** 2) < 5 / math.sqrt(count)


def test_attention_without_dropout_or_with_all_kept_is_torchs():
    """The handlers' own arithmetic, with masks that drop next to nothing."""
    q, k, v = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 5, 6), torch.randn(2, 2, 5, 6)
    allowed = torch.rand(5, 5) < 0.7
    allowed.fill_diagonal_(True)
    tiny = 1e-12
    for given in (
        {"is_causal": True, "enable_gqa": True},
        {"attn_mask": allowed, "enable_gqa": True, "scale": 0.3},
        {"attn_mask": torch.randn(5, 5), "enable_gqa": True},
    ):
        with Masks(torch.tensor(7)) as masks:
            found = F.scaled_dot_product_attention(q, k, v, dropout_p=tiny, **given)
        assert masks.calls == 1
        torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v, **given))
    layer = nn.MultiheadAttention(6, 2, dropout=tiny)
    still = nn.MultiheadAttention(6, 2)
    still.load_state_dict(layer.state_dict())
    x, padded = torch.randn(5, 3, 6), torch.tensor([[False] * 4 + [True]] * 3)
    for given in (
        {},
        {"need_weights": False},
        {"attn_mask": ~allowed},
        {"attn_mask": torch.randn(6, 5, 5), "average_attn_weights": False},
        {"key_padding_mask": padded, "attn_mask": ~allowed},
        {"attn_mask": torch.ones(5, 5).triu(1).bool(), "is_causal": True, "need_weights": False},
    ):
        with Masks(torch.tensor(7)) as masks:
            found = layer(x, x, x, **given)
        assert masks.calls == 1
        for ours, theirs in zip(found, still(x, x, x, **given), strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                torch.testing.assert_close(ours, theirs)
