"""Memory mirroring: the same numbers from fewer activations, and what is said where a GPU has too little memory."""

import gc

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mxnet_resnet.base.errors import UserError  # noqa: E402
from mxnet_resnet.data.batch import Batch  # noqa: E402
from mxnet_resnet.engines.base import TrainingSpec  # noqa: E402
from mxnet_resnet.engines.torch import devices, memory, nets, step  # noqa: E402
from mxnet_resnet.engines.torch.group import ProcessGroup  # noqa: E402
from mxnet_resnet.engines.torch.training import TrainingModel  # noqa: E402
from mxnet_resnet.plans import architecture  # noqa: E402

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).uniform(0, 255, (8, 3, 32, 32)).astype(np.float32)
BATCH = Batch(IMAGES, np.arange(8, dtype=np.float32), 8)


def begin(depth=20, **options):
    spec = TrainingSpec(10, (3, 32, 32), 8, lambda step: 0.01, **options)
    model = TrainingModel(architecture.symbolic_v2(depth, "cifar"), spec, CPU)
    notes = model.prepare()
    return model.start(ProcessGroup(), None, 0), notes


def kept_megabytes(begun) -> float:
    """MB that are alive between a forward and a backward pass, and were not before."""
    sizes = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        if not any(storage.data_ptr() == weight.data_ptr() for weight in begun.net.parameters()):
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        scores = step.compute_scores(begun.net, torch.from_numpy(BATCH.images), begun.spec.dtype)
    del scores
    gc.collect()
    return sum(sizes.values()) / memory.MB


@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16"}, {"memonger_budget": 9}, {"depth": 56}])
def test_mirroring_changes_no_bit(options):
    whole, _ = begin(**{name: value for name, value in options.items() if name != "memonger_budget"})
    mirrored, _ = begin(memonger=True, **options)
    for number in range(3):
        assert whole.step(BATCH, number).result() == mirrored.step(BATCH, number).result()
    expected, found = whole.snapshot(), mirrored.snapshot()
    for kind in ("params", "statistics", "momentum"):
        for name, array in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], array, err_msg=name)


def test_what_is_kept_is_what_was_planned():
    plain, _ = begin()
    spec = TrainingSpec(10, (3, 32, 32), 8, lambda step: 0.01, memonger=True)
    plan = memory.plan(nets.build(architecture.symbolic_v2(20, "cifar"), 10), spec, CPU)
    assert plan.whole == pytest.approx(kept_megabytes(plain), rel=0.05)
    mirrored, notes = begin(memonger=True)
    assert kept_megabytes(mirrored) < plan.kept < plan.whole / 2  # the inside of one run comes on top, later
    assert notes == [str(plan)] and "expected extra time: 33% a step" in notes[0]


def test_a_budget_is_kept_with_the_fewest_units_computed_again():
    net = nets.build(architecture.symbolic_v2(56, "cifar"), 10)
    plans = [
        memory.plan(net, TrainingSpec(10, (3, 32, 32), 8, float, memonger=True, memonger_budget=budget), CPU)
        for budget in (8, 14, 20, 1000)
    ]
    assert all(plan.kept <= budget for plan, budget in zip(plans, (8, 14, 20, 1000)))
    again = [plan.length * plan.segments for plan in plans]
    assert again == sorted(again, reverse=True) and again[0] > again[-1] == 0
    assert plans[-1].kept == plans[-1].whole
    with pytest.raises(UserError, match=r"no plan keeps the activations within 1 MB: the least found is [3-9] MB"):
        memory.plan(net, TrainingSpec(10, (3, 32, 32), 8, float, memonger=True, memonger_budget=1), CPU)


def test_deep_nets_keep_the_root_of_their_depth():
    spec = TrainingSpec(10, (3, 32, 32), 8, float, memonger=True)
    plan = memory.plan(nets.build(architecture.symbolic_v2(110, "cifar"), 10), spec, CPU)
    assert plan.length > 1 and plan.kept < plan.whole / 5


def test_too_little_memory_is_told_with_the_batch_that_fits(monkeypatch):
    begun, _ = begin(depth=8)
    before = begun.snapshot()
    forward = begun.net.forward

    def limited(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(images)

    monkeypatch.setattr(begun.net, "forward", limited)
    monkeypatch.setattr(devices, "describe_memory", lambda device: "GPU 0 has 4 GB")
    for compute in (lambda: begun.step(BATCH, 0), lambda: begun.validate(BATCH)):
        with pytest.raises(UserError, match="GPU 0 has 4 GB, too little for --batch-size 8: --batch-size 2 fits;"):
            compute()
    for name, array in before.params.items():
        np.testing.assert_array_equal(begun.snapshot().params[name], array)


def test_casts_of_weights_do_not_count_as_activations():
    """They do not grow with the batch."""
    net = nets.build(architecture.symbolic_v2(20, "cifar"), 10)
    small, large = (
        memory.plan(net, TrainingSpec(10, (3, 32, 32), images, float, dtype="bfloat16", memonger=True), CPU).whole
        for images in (8, 800)
    )
    whole = memory.plan(net, TrainingSpec(10, (3, 32, 32), 8, float, memonger=True), CPU).whole
    assert large == pytest.approx(100 * small) and 0.45 * whole < small < 0.8 * whole


def test_a_shortage_in_the_backward_pass_of_a_job_is_told(tmp_path, monkeypatch):
    """DistributedDataParallel has begun to sum then, and takes no other gradients until it is done."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        begun, _ = begin(depth=8)
        group = ProcessGroup()
        group.alone = False
        begun._parallel = group.spread(begun.net, CPU)

        def fail(gradient):
            raise torch.OutOfMemoryError("CUDA out of memory")

        hook = begun.net.head.weight.register_hook(fail)
        sizes = []

        def compute(part, trying=begun._try_gradients):
            hook.remove()  # the smaller batches fit
            sizes.append(part)
            trying(part)

        begun._try_gradients = compute
        monkeypatch.setattr(devices, "describe_memory", lambda device: "GPU 0 has 4 GB")
        with pytest.raises(UserError, match="--batch-size 4 fits"):
            begun.step(BATCH, 0)
        assert sizes == [4]
    finally:
        torch.distributed.destroy_process_group()
