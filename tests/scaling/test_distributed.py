"""Plans on sharded and replicated models: the same initial values, groups and training."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from scaling_networks import STDS, Decoder
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from stepladder.scaling import parametrize

STEPS = 3


def _plan(model):
    return parametrize(model, base=Decoder(16), init_std=STDS)


def _train(model, plan):
    optimizer = torch.optim.AdamW(plan.param_groups(lr=0.01, weight_decay=0.1, eps=1e-8))
    losses = []
    for step in range(STEPS):
        tokens = torch.arange(36).view(4, 9).add(step) % 23
        optimizer.zero_grad()
        logits = model(tokens[:, :-1]).flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def _plain():
    model = Decoder(32).double()
    plan = _plan(model)
    plan.initialize(seed=5)
    return _train(model, plan)


def _sharded(rank, meeting, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    with torch.device("meta"):
        model = Decoder(32).double()
    plan = _plan(model)
    mesh = dist.device_mesh.init_device_mesh("cpu", (2,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    model.to_empty(device="cpu")
    plan = plan.bind(model)
    plan.initialize(seed=5)
    sharded = _train(model, plan)

    copy = Decoder(32).double()
    plan = _plan(copy)
    plan.initialize(seed=5)
    replicated = DistributedDataParallel(copy)
    results[rank] = (sharded, _train(replicated, plan.bind(replicated)))
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_fsdp2_and_ddp_train_as_one_process_does(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_sharded, args=(tmp_path / "meeting", results), nprocs=2)
        plain = _plain()
        for sharded, replicated in results.values():
            torch.testing.assert_close(sharded, plain, rtol=1e-10, atol=0)
            torch.testing.assert_close(replicated, plain, rtol=1e-10, atol=0)
        assert len(results) == 2
