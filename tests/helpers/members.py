"""What the processes of a job do in tests."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np

from tests.helpers import REPOSITORY

# A worker, or whatever DMLC_ROLE says: `body` is what a worker does with its `store` and `peers`.
MEMBER = """
import os, signal, sys, time
sys.path.insert(0, {repository!r})
from mxnet_resnet.engines.mxnet import cluster
from mxnet_resnet.base.errors import run

def main():
    kind = {kind!r}
    cluster.prepare(kind)
    global mx, np
    import mxnet as mx, numpy as np
    from mxnet_resnet.engines.mxnet.group import KVStoreGroup
    with cluster.join(kind) as store:
        peers = KVStoreGroup(store)
{body}

run(main)
"""

TRAIN_FOR_EVER = """
array = mx.nd.zeros(1)
store.init("array", array)
while True:
    store.pushpull("array", mx.nd.ones(1), out=array)
    array.asscalar()
    print("step", flush=True)
    time.sleep(0.02)
"""

# Twenty steps of a small net with BatchNorm and momentum; worker `rank` takes every second half of a batch of 8.
TWENTY_STEPS = """
def train(store, peers, contexts, part):
    mx.random.seed(0)
    data = mx.sym.var("data")
    net = mx.sym.Convolution(data, kernel=(3, 3), num_filter=4, no_bias=True, name="conv")
    net = mx.sym.Activation(mx.sym.BatchNorm(net, fix_gamma=False, name="bn"), act_type="relu")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=3, name="fc"), name="softmax")
    module = mx.mod.Module(net, context=contexts)
    module.bind([("data", (4 * len(contexts), 2, 8, 8))], [("softmax_label", (4 * len(contexts),))])
    module.init_params(mx.init.Xavier())
    os.environ["MXNET_UPDATE_ON_KVSTORE"] = "0"
    module.init_optimizer(store, "nag", {"learning_rate": 0.1, "momentum": 0.9, "wd": 1e-3})
    random = np.random.RandomState(1)
    for _ in range(20):
        images, labels = random.rand(8, 2, 8, 8)[part], random.randint(0, 3, 8)[part]
        module.forward_backward(mx.io.DataBatch([mx.nd.array(images)], [mx.nd.array(labels)]))
        module.update()
    return peers.settle(module)
"""


def member(folder: Path, body: str, kind: str = "dist_sync", before: str = "") -> Path:
    """A script that takes part in a job."""
    script = folder / "member.py"
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    text = MEMBER.format(repository=str(REPOSITORY), kind=kind, body=lines)
    script.write_text(text.replace("def main():", f"{before}\ndef main():", 1))
    return script


SAVE = """
part = slice(4 * store.rank, 4 * store.rank + 4)
args, auxs = train(store, peers, [mx.cpu()], part)
mx.nd.save({folder!r} + f"/{{store.rank}}.params", {{**args, **auxs}})
print("at", os.environ["DMLC_NODE_HOST"])
"""


def assert_as_one_worker_with_two_devices(folder: Path) -> None:
    """Compare what SAVE has saved."""
    import mxnet as mx

    from mxnet_resnet.engines.mxnet.group import KVStoreGroup

    names: dict = {"mx": mx, "np": np, "os": mock.MagicMock()}
    exec(TWENTY_STEPS, names)
    store = mx.kvstore.create("device")
    args, auxs = names["train"](store, KVStoreGroup(store), [mx.cpu(0), mx.cpu(1)], slice(0, 8))
    for rank in (0, 1):
        found = mx.nd.load(str(folder / f"{rank}.params"))
        assert found.keys() == {**args, **auxs}.keys()
        for name, array in {**args, **auxs}.items():
            np.testing.assert_allclose(found[name].asnumpy(), array.asnumpy(), atol=1e-5, err_msg=name)
