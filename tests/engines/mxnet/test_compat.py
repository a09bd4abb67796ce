import os
import subprocess
import sys

import numpy as np
import pytest

from mxnet_resnet.engines.mxnet import compat

# A convolution that feeds a BatchNorm and a shortcut, as in every pre-activation net, against the same in NumPy.
FORKED_CONVOLUTION = """
import mxnet_resnet.engines.mxnet, mxnet as mx, numpy as np
x = mx.sym.var("x")
conv = mx.sym.Convolution(x, kernel=(1, 1), num_filter=4, no_bias=True, name="conv")
norm = mx.sym.BatchNorm(conv, fix_gamma=False, eps=1e-5, name="norm")
symbol = mx.sym.Convolution(norm, kernel=(1, 1), num_filter=4, no_bias=True, name="top") + conv
random = np.random.RandomState(0)
shape = (2, 4, 6, 6)
executor = symbol.simple_bind(mx.cpu(), grad_req="null", x=shape)
for array in (*executor.arg_arrays, *executor.aux_arrays):
    array[:] = random.uniform(0.5, 1.5, array.shape)
value = {name: array.asnumpy() for name, array in {**executor.arg_dict, **executor.aux_dict}.items()}
convolve = lambda name, a: np.einsum("oi,nihw->nohw", value[name + "_weight"][:, :, 0, 0], a)
channel = lambda name: value["norm_" + name].reshape(1, 4, 1, 1)
forked = convolve("conv", value["x"])
normed = (forked - channel("moving_mean")) / np.sqrt(channel("moving_var") + 1e-5) * channel("gamma") + channel("beta")
expected = convolve("top", normed) + forked
print(abs(executor.forward(is_train=False)[0].asnumpy() - expected).max() / abs(expected).max())
"""


def python(code: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MXNET_", "OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_convolution_with_two_uses_is_not_folded_into_a_batchnorm():
    assert float(python(FORKED_CONVOLUTION)) < 1e-5


def test_the_fold_is_what_makes_mxnet_wrong():
    """If this fails, MXNet folds rightly here, and the switch in compat (with the test above) has lost its reason."""
    assert float(python(FORKED_CONVOLUTION, MXNET_DISABLE_MKLDNN_FUSE_CONV_BN="0")) > 1e-2


def test_mxnet_gets_all_cores_unless_the_user_has_set_a_number():
    show = "import os, mxnet_resnet.engines.mxnet; print(os.environ['OMP_NUM_THREADS'])"
    assert python(show) == str(len(os.sched_getaffinity(0)))
    assert python(show, OMP_NUM_THREADS="7") == "7"


def test_parts_share_the_cores_unless_the_user_has_set_a_number():
    show = "compat.share_cores({}); print(os.environ['OMP_NUM_THREADS'])"
    eight = "import os; os.sched_getaffinity = lambda _: range(8); from mxnet_resnet.engines.mxnet import compat; "
    assert [python(eight + show.format(parts)) for parts in (1, 3, 9)] == ["8", "2", "1"]
    assert python(eight + show.format(3), OMP_NUM_THREADS="7") == "7"


CHOICE = """
import os; os.sched_getaffinity = lambda _: range(8)
from mxnet_resnet.engines.mxnet import compat, engine
compat.count_busy_cores = lambda: {busy}
print(*engine.MXNetEngine().prepare({arguments}), os.environ["OMP_NUM_THREADS"])
"""


@pytest.mark.parametrize(
    "busy, arguments, told, threads",
    [
        (0, "'device', None", "", 8),
        (3, "'device', None", "MXNet computes with 5 of 8 threads, since other work keeps 3 of 8 cores busy: ", 5),
        (9, "'device', None", "1 of 8 threads, since other work keeps 9 of 8 cores busy: ", 1),
        (4, "'device', 2", "2 of 4 threads on each device, since other work keeps 4 of 8 cores busy: ", 2),
        (4, "'device', 8", "", 1),
        (3, "'device', None, None, True", "", 8),  # --deterministic
        (3, "'device', None, 8", "", 8),  # a run goes on
        (3, "'device', None, 2", "MXNet computes with 2 of 8 threads, as the run has had them: ", 2),
        (3, "'device', None, 64", "", 8),
    ],
)
def test_a_new_run_leaves_busy_cores_to_others_and_says_so(busy, arguments, told, threads):
    printed = python(CHOICE.format(busy=busy, arguments=arguments))
    if told:
        told += "OMP_NUM_THREADS sets another number "
    assert printed.endswith(f"{told}{threads}") and bool(told) == ("MXNet computes" in printed)


def test_a_number_of_threads_that_is_set_stays():
    assert python(CHOICE.format(busy=3, arguments="'device', 2, 1"), OMP_NUM_THREADS="7") == "7"


def test_mxnet_imports_without_a_word():
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", "import mxnet_resnet.engines.mxnet, mxnet; mxnet.nd.ones(2).asnumpy()"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_published_net_that_the_fold_breaks(shared):
    """GluonCV's cifar_resnet20_v2 has 7.30% error on CIFAR-10's test set, and 35.65% with the folded graph."""
    import mxnet as mx

    symbol, args, auxs = mx.model.load_checkpoint(str(shared / "checkpoints/cifar_resnet20_v2"), 0)
    raw = np.fromfile(shared / "cifar10/cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(-1, 3073)[:2000]
    mean = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(1, 3, 1, 1)
    std = np.array([0.2023, 0.1994, 0.2010], np.float32).reshape(1, 3, 1, 1)
    images = (raw[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255 - mean) / std
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", data=images.shape)
    executor.copy_params_from(args, auxs)
    scores = executor.forward(is_train=False, data=mx.nd.array(images))[0].asnumpy()
    assert 6 < 100 * np.mean(scores.argmax(axis=1) != raw[:, 0]) < 9


def test_a_missing_driver_is_told_in_a_sentence():
    error = OSError("libcuda.so.1: cannot open shared object file: No such file or directory")
    assert "NVIDIA driver" in compat.missing_library(error)
    assert compat.missing_library(OSError("something else")) is None


def test_distutils_versions_compare():
    from distutils.version import LooseVersion

    assert LooseVersion("1.10.0") > LooseVersion("1.9.1")


def test_mxnet_takes_numbers_of_numpy():
    """Within tuples, which it writes out, as its own initializers do."""
    import mxnet as mx

    drawn = mx.nd.random.uniform(shape=(2, np.prod((2, 4))))
    assert drawn.shape == (2, 8)
