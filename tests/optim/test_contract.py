"""One contract for every registered optimizer."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from stepladder.optim import REGISTRY, build, card, evaluating
from stepladder.optim.engine import RuleOptimizer
from stepladder.optim.whole import WholeModelOptimizer
from stepladder.scaling.optimizers import OPTIMIZERS

from .reference import gradients, parameters, train

NAMES = list(REGISTRY)
LOW_RANK = {"galore", "fira", "adam-snsm"}
NEEDS_LOSS = {"smag", "sania"}
SMALL = ((6, 4), (4, 5), (3,))


def make(name, params, **kwargs):
    options = {"rank": 2, "gap": 3} if name in LOW_RANK else {}
    return build(name, params, **{"lr": 0.01, "weight_decay": 0.1, **options, **kwargs})


def is_rule(name):
    return isinstance(make(name, parameters(SMALL)), RuleOptimizer)


def is_whole(name):
    return isinstance(make(name, parameters(SMALL)), WholeModelOptimizer)


def run(optimizer, params, steps, start=0):
    return train(optimizer, params, steps, lambda step: 1.0 / (1 + step), start)


RULES = [name for name in NAMES if is_rule(name)]
BY_GROUP = [name for name in NAMES if not is_whole(name)]


def equal(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_reduces_a_quadratic(name):
    params = parameters(SMALL, torch.float32)
    optimizer = make(name, params, lr=1.0 if name.startswith("d-adapt") else 0.03, weight_decay=0.0)

    def loss():
        return sum((p**2).sum() for p in params) / 2

    first = loss().item()
    for _ in range(150):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step(lambda value=value: value)
    with evaluating(optimizer):
        assert loss().item() < 0.9 * first


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resumes_bit_for_bit(name, dtype):
    if dtype is torch.bfloat16 and is_whole(name):
        with pytest.raises(ValueError, match="float32"):
            make(name, parameters(SMALL, dtype))
        return
    params = parameters(SMALL, dtype)
    optimizer = make(name, params)
    run(optimizer, params, 5)
    saved = io.BytesIO()
    torch.save({"params": [p.detach() for p in params], "state": optimizer.state_dict()}, saved)
    straight = run(optimizer, params, 5, start=5)

    saved.seek(0)
    checkpoint = torch.load(saved, weights_only=True)
    again = [nn.Parameter(p) for p in checkpoint["params"]]
    resumed = make(name, again)
    resumed.load_state_dict(checkpoint["state"])
    assert equal(run(resumed, again, 5, start=5), straight)


@pytest.mark.parametrize("name", NAMES)
def test_refuses_another_optimizers_state(name):
    other = "adam" if name == "adamw" else "adamw"
    params = parameters(SMALL)
    foreign = make(other, params)
    run(foreign, params, 1)
    with pytest.raises(ValueError, match=f"cannot resume {name} from the state of {other}"):
        make(name, parameters(SMALL)).load_state_dict(foreign.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_refuses_a_state_that_was_not_built_here(name):
    params = parameters(SMALL)
    plain = torch.optim.SGD(params, lr=0.1, momentum=0.9)
    run(plain, params, 1)
    with pytest.raises(ValueError, match=r"that stepladder\.optim\.build did not make"):
        make(name, params).load_state_dict(plain.state_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shapes", [((6, 5), (4, 5), (3,)), ((9, 4), (4, 5), (3,)), ((2,),) * 3])
def test_refuses_the_state_of_other_shapes(name, shapes):
    """torch's fused kernels would read and write beyond its end."""
    params = parameters(shapes)
    other = make(name, params)
    run(other, params, 1)
    with pytest.raises(ValueError, match=f"cannot resume {name}: the saved state of parameter 0"):
        make(name, parameters(SMALL)).load_state_dict(other.state_dict())


@pytest.mark.parametrize("name", sorted(LOW_RANK))
def test_refuses_the_state_of_other_options(name):
    params = parameters(SMALL)
    other = make(name, params, rank=3)
    run(other, params, 1)
    with pytest.raises(ValueError, match="the options that it was saved with"):
        make(name, params, rank=2).load_state_dict(other.state_dict())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_as_the_original(name, copied):
    """To the bit where the arithmetic is ours; torch's own forget which kernel they had."""
    params = parameters(SMALL)
    optimizer = make(name, params)
    run(optimizer, params, 3)
    twins, twin = copied((params, optimizer))
    for a, b in zip(run(optimizer, params, 4, 3), run(twin, twins, 4, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    twins[0].grad = torch.ones_like(twins[0]).to_sparse()
    with pytest.raises((ValueError, RuntimeError), match="sparse"):
        twin.step(lambda: torch.tensor(1.0))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "muon"])
def test_an_added_group_is_one_of_its_own(name):
    params = parameters(SMALL)
    optimizer = make(name, params[:1])
    run(optimizer, params[:1], 2)
    optimizer.add_param_group({"params": params[1:]})
    run(optimizer, params, 2, start=2)
    assert {g["initial_lr"] for g in optimizer.param_groups} == {0.01}
    again = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = make(name, [{"params": again[:1]}, {"params": again[1:]}])
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch would share tensors
    assert equal(run(resumed, again, 3, start=4), run(optimizer, params, 3, start=4))
    optimizer.add_param_group({"params": nn.Parameter(torch.ones(2, dtype=torch.complex64))})
    with pytest.raises(ValueError, match="an added group: complex"):
        optimizer.step(lambda: torch.tensor(1.0))


def test_muon_adds_no_group():
    optimizer = make("muon", parameters(SMALL))
    with pytest.raises(ValueError, match="build it anew with all groups"):
        optimizer.add_param_group({"params": parameters(SMALL)})


@pytest.mark.parametrize("name", NAMES)
def test_named_parameters_are_parameters(name):
    named, plain = parameters(SMALL), parameters(SMALL)
    groups = [(f"layer.{i}", p) for i, p in enumerate(named)]
    assert equal(run(make(name, groups), named, 3), run(make(name, plain), plain, 3))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("adafactor", "muon")])
def test_empty_parameters_are_passed_over(name):
    """A process's share of a sharded model may be empty. (torch's Adafactor and Muon refuse.)"""
    params = parameters((*SMALL, (0, 5), (5, 0), (0,)))
    with_empty = run(make(name, params), params, 3)
    clean = parameters(SMALL)
    assert equal(with_empty[:3], run(make(name, clean), clean, 3))


@pytest.mark.parametrize("name", NAMES)
def test_rate_zero_moves_nothing(name):
    params = parameters(SMALL)
    before = [p.detach().clone() for p in params]
    optimizer = make(name, [{"params": params[:1], "lr": 0.0}, {"params": params[1:]}])
    after = run(optimizer, params, 3)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("name", BY_GROUP)
def test_groups_have_their_own_rates(name):
    """Two groups in one optimizer are two optimizers."""
    rates = {"lr": 0.03, "weight_decay": 0.3, "eps": 1e-3}
    together, first, second = parameters(SMALL), parameters(SMALL), parameters(SMALL)
    groups = [{"params": together[:1], **rates}, {"params": together[1:]}]
    one = run(make(name, groups, eps=1e-5), together, 4)
    for p in first[1:] + second[:1]:
        p.requires_grad_(False)
    alone = [run(make(name, first[:1], **rates), first[:1], 4)]
    assert torch.equal(one[0], alone[0][0])
    with_noise = make(name, second[1:], eps=1e-5)
    for step in range(4):
        for p, g in zip(second, gradients(second, step), strict=True):
            p.grad = g
        with_noise.step()
    assert equal(one[1:], [p.detach() for p in second[1:]])


@pytest.mark.parametrize("name", NAMES)
def test_groups_get_an_initial_rate(name):
    params = parameters(SMALL)
    optimizer = make(name, [{"params": params[:1], "lr": 0.03}, {"params": params[1:]}])
    assert {g["initial_lr"] for g in optimizer.param_groups} == {0.03, 0.01}


@pytest.mark.parametrize("name", NAMES)
def test_closure_is_called_once_with_gradients_on(name):
    params = parameters(SMALL)
    optimizer = make(name, params)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        loss = sum((p**2).sum() for p in params)
        loss.backward()
        return loss

    assert torch.is_tensor(optimizer.step(closure))
    assert calls == [True]


@pytest.mark.parametrize("name", NAMES)
def test_missing_closure(name):
    params = parameters(SMALL)
    optimizer = make(name, params)
    for p in params:
        p.grad = torch.ones_like(p)
    if name in NEEDS_LOSS:
        with pytest.raises(ValueError, match=f"{name} takes its step size from the loss"):
            optimizer.step()
    else:
        assert optimizer.step() is None


@pytest.mark.parametrize("name", NAMES)
def test_parameters_without_gradient_wait(name):
    """They stay as they are, and their first step, when it comes, is a first step."""
    params = parameters(SMALL)
    optimizer = make(name, params)
    still = params[0].detach().clone()
    for p in params[1:]:
        p.grad = torch.ones_like(p)
    for _ in range(3):
        optimizer.step(lambda: torch.tensor(1.0))
    assert torch.equal(params[0].detach(), still)


@pytest.mark.parametrize("name", RULES)
def test_late_parameters_take_a_first_step(name):
    if name.startswith("schedule-free"):
        pytest.skip("the weight of the average belongs to the group")
    late, alone = parameters(SMALL), parameters(SMALL)
    optimizer = make(name, late)
    for p in late[1:]:
        p.grad = torch.ones_like(p)
    optimizer.step()
    late[0].grad = torch.ones_like(late[0])
    optimizer.step()
    alone[0].grad = torch.ones_like(alone[0])
    make(name, alone[:1]).step()
    torch.testing.assert_close(late[0], alone[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_gradients_show_and_stay_where_they_are(name, bad):
    params, clean = parameters(SMALL), parameters(SMALL)
    optimizer, reference = make(name, params), make(name, clean)
    for step in range(2):
        for p, q, g in zip(params, clean, gradients(clean, step), strict=True):
            p.grad, q.grad = g.clone(), g.clone()
        params[0].grad[0, 0] = bad
        for o in (optimizer, reference):
            o.step(lambda: torch.tensor(1.0))
    assert not torch.isfinite(params[0]).all()
    if not is_whole(name):
        assert equal(params[1:], clean[1:])


@pytest.mark.parametrize("name", sorted(NEEDS_LOSS))
def test_a_loss_that_is_not_a_number_shows(name):
    params = parameters(SMALL)
    optimizer = make(name, params)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step(lambda: torch.tensor(float("nan")))
    assert not any(torch.isfinite(p).any() for p in params)


def test_no_polyak_step_goes_uphill():
    params = parameters(SMALL)
    for p in params:
        p.grad = torch.ones_like(p)
    make("smag", params, lower_bound=0.5).step(lambda: torch.tensor(0.4))
    assert equal(params, parameters(SMALL))
    with pytest.raises(ValueError, match="-1 is below it"):
        make("sania", params).step(lambda: torch.tensor(-1.0))


@pytest.mark.parametrize("name", NAMES)
def test_memory_may_lie_as_it_likes(name):
    """Parameters and gradients in another layout, or expanded, as one may set `grad` by hand."""
    shapes = ((4, 6), (3, 4, 2, 5), (3, 4))
    plain, strange = parameters(shapes, torch.float32), parameters(shapes, torch.float32)
    strange[0] = nn.Parameter(strange[0].detach().t().contiguous().t())
    strange[1] = nn.Parameter(strange[1].detach().to(memory_format=torch.channels_last))
    optimizers = make(name, plain), make(name, strange)
    for step in range(3):
        for p, q, g in zip(plain, strange, gradients(plain, step), strict=True):
            p.grad, q.grad = g, g.clone()
        plain[2].grad = plain[2].grad[:, :1].expand(3, 4).contiguous()
        strange[2].grad = plain[2].grad[:, :1].expand(3, 4)
        for optimizer in optimizers:
            optimizer.step(lambda: torch.tensor(1.0))
    for p, q in zip(plain, strange, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_sparse_gradients_are_refused(name):
    weight = nn.Parameter(torch.ones(4, 3))
    optimizer = make(name, [weight])
    weight.grad = torch.sparse_coo_tensor([[1], [2]], [1.0], (4, 3), check_invariants=True)
    with pytest.raises(ValueError, match="sparse=False"):
        optimizer.step(lambda: torch.tensor(1.0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("named", [False, True])
def test_sparse_gradients_of_a_closure_are_refused(name, named):
    table = nn.Embedding(6, 4, sparse=True)
    optimizer = make(name, table.parameters())

    def closure():
        loss = table(torch.tensor([1, 2])).square().sum()
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="sparse=False"):
        optimizer.step(closure=closure) if named else optimizer.step(closure)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("groups", "kwargs", "message"),
    [
        ([], {}, "no parameters"),
        ([{"params": []}], {}, "group 0 is empty"),
        ([nn.Parameter(torch.ones(2, dtype=torch.complex64))], {}, "complex"),
        ([{"params": [p := nn.Parameter(torch.ones(2, 2))]}, {"params": [p]}], {}, "twice"),
        ([(nn.Parameter(torch.ones(2)) * 2)], {}, "not a leaf"),
        ([3.0], {}, "holds a float"),
        ([{"param": []}], {}, "a dictionary with `params`"),
        (None, {"lr": -1.0}, "lr must be finite and not negative"),
        (None, {"lr": float("nan")}, "lr must be finite"),
        (None, {"weight_decay": float("inf")}, "weight_decay must be finite"),
        (None, {"betas": (0.9, 1.0)}, "betas are two numbers"),
        (None, {"betas": 0.9}, "betas are two numbers"),
        (None, {"eps": -1.0}, "eps must be finite and not negative"),
        ([{"params": [nn.Parameter(torch.ones(2))], "betas": (0.9, 2.0)}], {}, "group 0: betas"),
        (None, {"gamm": 1.0}, "has no option 'gamm'"),
    ],
)
def test_bad_input_is_named(name, groups, kwargs, message):
    groups = [nn.Parameter(torch.ones(2, 2))] if groups is None else groups
    with pytest.raises(ValueError, match=message):
        build(name, groups, **{"lr": 0.1, **kwargs})


def test_unknown_names_get_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'lion'"):
        build("lino", parameters(SMALL), lr=0.1)
    with pytest.raises(ValueError, match="did you mean 'gamma'"):
        build("mars-lion", parameters(SMALL), lr=0.1, gama=0.1)
    with pytest.raises(ValueError, match="did you mean 'compiled'"):
        build("lion", parameters(SMALL), lr=0.1, mode="compile")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("galore", {"rank": 0}, "rank must be a whole number, 1 or more"),
        ("fira", {"gap": 2.5}, "gap must be a whole number, 1 or more"),
        ("mars-lion", {"gamma": float("nan")}, "gamma must be finite and not negative"),
        ("schedule-free-sgd", {"r": -1.0}, "r must be finite and not negative"),
        ("adabound", {"gamma": 0.0}, "gamma must be positive"),
        ("innaprop", {"beta": 0.0}, "beta must be positive"),
        ("smag", {"c": 0.0}, "c divides the step"),
    ],
)
def test_options_that_cannot_be_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        build(name, parameters(SMALL), lr=0.1, **options)


@pytest.mark.parametrize("name", RULES)
def test_foreach_is_the_loop(name):
    loop, foreach = parameters(SMALL), parameters(SMALL)
    one = run(make(name, loop, mode="loop"), loop, 8)
    many = run(make(name, foreach, mode="foreach"), foreach, 8)
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", [*RULES, "adamw", "sgd"])
def test_stacked_trials_are_separate_runs(name):
    """Each with its own rate, decay and epsilon; one that diverges leaves the rest as is."""
    lrs, decays, epss = [0.01, 0.02, 0.005], [0.0, 0.1, 0.2], [1e-8, 1e-6, 1e-4]
    rates = {"lr": lrs, "weight_decay": decays, "eps": epss}
    runs = []
    for i in range(3):
        params = parameters(SMALL)
        runs.append(run(make(name, params, **{k: v[i] for k, v in rates.items()}), params, 7))

    def stacked(poison):
        single = parameters(SMALL)
        stack = [nn.Parameter(torch.stack([p.detach()] * 3)) for p in single]
        tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in rates.items()}
        optimizer = make(name, [{"params": stack, **tensors}], trials=3)
        for step in range(7):
            trials = [[nn.Parameter(p[i].detach()) for p in stack] for i in range(3)]
            grads = [gradients(trial, step) for trial in trials]
            for p, *g in zip(stack, *grads, strict=True):
                p.grad = torch.stack(g)
                if poison:
                    p.grad[1] = float("nan")
            optimizer.step(lambda: torch.tensor(1.0))
        return [p.detach() for p in stack]

    clean = stacked(poison=False)
    for i, alone in enumerate(runs):
        for p, q in zip(clean, alone, strict=True):
            torch.testing.assert_close(p[i], q, rtol=1e-9, atol=1e-11)
    poisoned = stacked(poison=True)
    assert all(p[1].isnan().any() for p in poisoned)
    assert equal([p[[0, 2]] for p in clean], [p[[0, 2]] for p in poisoned])


@pytest.mark.parametrize("name", RULES)
def test_stacking_needs_the_trials_in_front(name):
    with pytest.raises(ValueError, match="does not stack 3 trials"):
        make(name, parameters(SMALL), trials=5 if name == "none" else 3)


@pytest.mark.parametrize("name", RULES)
def test_bfloat16_parameters_keep_small_updates(name):
    """200 steps whose sum matters and each of which is below bfloat16's rounding."""
    start = parameters(SMALL, torch.bfloat16)
    wide = [nn.Parameter(p.detach().float()) for p in start]
    narrow = [nn.Parameter(p.detach().clone()) for p in start]
    lr = 1.0 if name == "lars" else 2e-4
    for params in (wide, narrow):
        optimizer = make(name, params, lr=lr, weight_decay=0.0)
        for _ in range(200):
            for p in params:
                p.grad = torch.ones_like(p)
            optimizer.step()
    moved = max(
        (w.detach() - s.detach().float()).abs().max() for w, s in zip(wide, start, strict=True)
    )
    for n, w in zip(narrow, wide, strict=True):
        assert n.dtype is torch.bfloat16
        error = (n.detach().float() - w.detach()).abs().max()
        assert error < 0.7 * moved


@pytest.mark.parametrize("name", NAMES)
def test_card(name):
    its = card(name)
    assert its.title
    assert its.arxiv
    assert its.claim
    assert its.scaling == "unknown" or its.scaling in OPTIMIZERS


@pytest.mark.parametrize("name", NAMES)
def test_state_is_as_large_as_the_card_says(name):
    weight = nn.Parameter(torch.randn(1024, 1024))
    optimizer = build(name, [weight], lr=0.01)
    weight.grad = torch.randn(1024, 1024)
    optimizer.step(lambda: torch.tensor(1.0))
    state = optimizer.state[weight].values()
    size = sum(t.numel() * t.element_size() for t in state if torch.is_tensor(t))
    assert size / weight.numel() == pytest.approx(card(name).state_bytes, rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_mode_is_taken_by_rules_and_ignored_by_torchs(name):
    params, plain = parameters(SMALL), parameters(SMALL)
    looped = run(make(name, params, mode="loop"), params, 3)
    for a, b in zip(looped, run(make(name, plain), plain, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_evaluating_schedule_free_restores_bit_for_bit():
    params = parameters(SMALL, torch.float32)
    optimizer = make("schedule-free-adamw", params)
    before = run(optimizer, params, 4)
    with evaluating(optimizer):
        assert not equal(before, params)
        with pytest.raises(ValueError, match="leave it first"):
            optimizer.step()
        with pytest.raises(ValueError, match="twice"):
            optimizer.enter_evaluation()
    assert equal(before, params)


def test_evaluating_does_nothing_elsewhere():
    params = parameters(SMALL)
    with evaluating(make("lion", params)):
        assert equal(params, parameters(SMALL))


def test_innaprop_needs_a_rate_below_beta():
    params = parameters(SMALL)
    optimizer = make("innaprop", params, lr=0.9)
    params[0].grad = torch.ones_like(params[0])
    with pytest.raises(ValueError, match=r"must be < 0\.9"):
        optimizer.step()
