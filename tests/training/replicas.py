"""One of two processes that train together, for `test_distributed.py`: prints what it ended with, as JSON.

Arguments: rank, file where the processes meet.
"""

import gc
import json
import sys
import warnings

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import kstyle_torch as ks
from kstyle_torch import layers

RANK, MEETING = int(sys.argv[1]), sys.argv[2]
X = np.random.default_rng(RANK).normal(size=(128, 4)).astype("float32")  # each process has data of its own
Y = X.sum(1, keepdims=True) + RANK


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))


def dense():
    torch.manual_seed(0)
    return ks.Sequential([ks.Input((4,)), layers.Dense(8, activation="relu"), layers.Dense(1)])


class Holder(ks.Model):
    def __init__(self):
        super().__init__()
        self.net = DistributedDataParallel(net())

    def call(self, x):
        return self.net(x)


MODELS = {
    "from_torch": lambda: ks.from_torch(DistributedDataParallel(net())),
    "from-a-model": lambda: ks.from_torch(DistributedDataParallel(dense())),
    "in-a-graph": lambda: ks.Sequential([ks.Input((4,)), layers.TorchModule(DistributedDataParallel(net()))]),
    "in-a-subclass": Holder,
}


def trained(model, **options):
    """A sum over the weights after more steps than it takes until steps are recorded."""
    model.compile(ks.optimizers.SGD(0.01), "mse", **options)
    model.fit(X, Y, batch_size=4, epochs=4, verbose=0, shuffle=False)
    return [float(parameter.detach().double().sum()) for parameter in model.parameters()]


def fully_sharded():
    from torch.distributed.fsdp import fully_shard

    model = dense()
    fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (2,)))
    trained(model)
    return [float(parameter.full_tensor().detach().double().sum()) for parameter in model.parameters()]


def main():
    torch.distributed.init_process_group("gloo", init_method=f"file://{MEETING}", rank=RANK, world_size=2)
    found = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name, make in MODELS.items():
            found[name] = trained(make())
        found["asked"] = trained(MODELS["from_torch"](), jit_compile="record")
        found["sharded"] = fully_sharded()
        found["warnings"] = [str(each.message) for each in caught]
    model = dense()
    wrapped = DistributedDataParallel(model)
    try:
        trained(model)
    except ValueError as error:
        found["past"] = str(error)
    del wrapped
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, Y, verbose=0, epochs=2)
        found["alone"] = [str(each.message) for each in caught]
    print(json.dumps(found), flush=True)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
