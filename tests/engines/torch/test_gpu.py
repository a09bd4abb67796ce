"""PyTorch on a GPU: needs one, and neither MXNet nor any other data than what is made here.

python -m pytest -m gpu
"""

import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mxnet_resnet.base.errors import UserError  # noqa: E402
from mxnet_resnet.base.interruption import Interrupted  # noqa: E402
from mxnet_resnet.data import augment, recordio  # noqa: E402
from mxnet_resnet.data.batch import Batch  # noqa: E402
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords  # noqa: E402
from mxnet_resnet.data.writer import RecordWriter  # noqa: E402
from mxnet_resnet.engines import initial  # noqa: E402
from mxnet_resnet.engines.base import TrainingSpec  # noqa: E402
from mxnet_resnet.engines.graphs import emission  # noqa: E402
from mxnet_resnet.engines.net import TrainedNet  # noqa: E402
from mxnet_resnet.engines.torch import precision  # noqa: E402
from mxnet_resnet.engines.torch.engine import TorchEngine  # noqa: E402
from mxnet_resnet.engines.torch.group import ProcessGroup  # noqa: E402
from mxnet_resnet.plans import architecture  # noqa: E402
from mxnet_resnet.runs import entries  # noqa: E402
from tests.helpers import REPOSITORY, runs  # noqa: E402

pytestmark = pytest.mark.gpu

RANDOM = np.random.default_rng(0)


def draw(label: int, side: int = 32) -> np.ndarray:
    """An image (H, W, 3) of one of ten classes, each a colour and a brightness in noise."""
    colour = np.array([25 * label, 255 - 25 * label, 120 * (label % 2)])
    return RANDOM.normal(colour, 20, (side, side, 3)).clip(0, 255).astype(np.uint8)


LABELS = np.arange(32) % 10
BATCH = Batch(
    np.stack([draw(label).transpose(2, 0, 1) for label in LABELS]).astype(np.float32), LABELS.astype(np.float32), 32
)


@pytest.fixture(scope="module")
def engine():
    made = TorchEngine()
    made.prepare("device", None)
    made.load()
    return made


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Flags for records of the ten classes."""
    folder = tmp_path_factory.mktemp("records")
    for name, count in (("train", 640), ("val", 160)):
        with RecordWriter(folder / name) as writer:
            for number in range(count):
                image = cv2.imencode(".png", draw(number % 10))[1].tobytes()
                writer.write(number, number % 10, image, f"{number}.png")
    shape = "--image-shape 3,32,32 --num-classes 10 --depth 8 --batch-size 64 --epochs 6 --lr 0.03 --lr-steps none"
    data = f"--data-type custom --data-train {folder}/train.rec --data-val {folder}/val.rec"
    return f"{data} {shape} --engine torch --gpus 0 --frequent 5".split()


def flags(records, folder, *more):
    return [*records, "--model-prefix", f"{folder}/model/net", "--log-dir", f"{folder}/log", *more]


def begin(engine, gpus, depth=20, image_shape=(3, 32, 32), batch_size=32, rate=0.001, captures=None, **options):
    devices = engine.choose_devices(gpus, None)
    stem = "cifar" if image_shape[1] < 64 else "imagenet"
    spec = TrainingSpec(10, image_shape, batch_size, lambda step: rate, **options)
    model = engine.model(architecture.symbolic_v2(depth, stem), spec, devices)
    model.prepare()
    session = model.start(ProcessGroup(), None, 0)
    session.captures = session.captures if captures is None else captures
    return session


def assert_close(found, expected, tolerance=1e-4):
    """Parameters and statistics, but for rounding."""
    for kind in ("params", "statistics"):
        for name, array in getattr(expected, kind).items():
            difference = np.linalg.norm(getattr(found, kind)[name] - array)
            assert difference <= tolerance * max(np.linalg.norm(array), 1e-3), name


def assert_equal(found, expected):
    for kind in ("params", "statistics", "momentum"):
        for name, array in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], array, err_msg=name)


@contextmanager
def refusing_to_wait():
    """Within it PyTorch raises where the host would wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def small(records):
    """The training and the validation records, as an epoch of a run reads them."""
    train, val = (Path(records[records.index(flag) + 1]) for flag in ("--data-train", "--data-val"))
    given = dict(augmentation=augment.LEVELS[1], pad=4, mirror=True, seed=3)
    training = TrainingRecords(train, recordio.scan(train), (3, 32, 32), 32, **given)
    return training, ValidationRecords(val, recordio.scan(val), (3, 32, 32), 32)


@pytest.mark.parametrize("name", ["resnet20_v2", "preact_resnet50", "resnet18", "wide_resnet16_8", "gluon_resnet50_v1"])
def test_predictions_are_those_of_the_cpu(engine, name):
    plan = architecture.find(name)
    graph = emission.emit(plan, 10)
    side = 32 if plan.small_images else 64
    net = TrainedNet(name, *initial.draw(graph, graph.noted_shapes, 0), (3, side, side), 10, plan=plan)
    images = RANDOM.normal(size=(4, 3, side, side)).astype(np.float32)
    on_cpu, on_gpu = (
        engine.predictor(net, engine.choose_devices(gpus, None), 3, "float32").scores(images) for gpus in ([], [0])
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4 * np.abs(on_cpu).max())


def test_heat_maps_are_those_of_the_cpu(engine):
    plan = architecture.find("preact_resnet20")
    graph = emission.emit(plan, 10)
    net = TrainedNet("a net", *initial.draw(graph, graph.noted_shapes, 0), (3, 32, 32), 10, plan=plan)
    found = []
    for gpus in ([], [0]):
        computed = engine.gradients(net, engine.choose_devices(gpus, None))
        features = computed.features(BATCH.images[:2])
        found.append((features, computed.gradients(features, 3)))
    for on_gpu, on_cpu in zip(*reversed(found)):
        np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4 * np.abs(on_cpu).max())


def test_a_step_is_that_of_the_cpu(engine):
    on_cpu, on_gpu = begin(engine, []), begin(engine, [0])
    assert on_gpu.captures
    expected, found = on_cpu.step(BATCH, 0).result(), on_gpu.step(BATCH, 0).result()
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert_close(on_gpu.snapshot(), on_cpu.snapshot())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_repeated_step_is_the_step(engine, small, dtype, caplog):
    """To the bit, from images that are read and from those that stay on the GPU, with validations between."""
    training, validation = small
    launched, repeated, resident = (
        begin(engine, [0], dtype=dtype, rate=0.01, captures=captures, deterministic=True)
        for captures in (False, None, None)
    )
    resident.data_sets.validated = 0  # in the batches of the reader
    assert resident.captures and list(resident.read(training, 0, 18))  # the last two of twenty
    for number, (batch, places) in enumerate(zip(training.epoch(0), resident.read(training, 0, 0))):
        expected = launched.step(batch, number).result()
        assert repeated.step(batch, number).result() == expected
        assert resident.step(places, number).result() == expected
    for batch, places in zip(validation.read(), resident.read_validation(validation)):
        expected = launched.validate(batch).result()
        for found in (repeated.validate(batch).result(), resident.validate(places).result()):
            assert (found.images, found.correct, found.loss) == (expected.images, expected.correct, expected.loss)
    for session in (repeated, resident):
        assert_equal(session.snapshot(), launched.snapshot())
    assert not [record for record in caplog.records if "no CUDA graph" in record.message]


def test_the_crops_of_a_gpu_are_those_of_the_reader(engine, small):
    training, validation = small
    data = begin(engine, [0], depth=8).data_sets
    data.validated = 0  # in the batches of the reader
    for batch, places in zip(training.epoch(2), data.read(training, 2, 0)):
        np.testing.assert_array_equal(places.data.cut(places.places).cpu().numpy(), batch.images)
    for batch, places in zip(validation.read(), data.read_validation(validation)):
        np.testing.assert_array_equal(places.data.cut(places.places).cpu().numpy(), batch.images)


@pytest.mark.parametrize("together, kept_there", [(1, True), (3, True), (1, False)])
def test_steps_and_validations_do_not_wait_for_the_gpu(engine, small, together, kept_there):
    training, validation = small
    sessions = [begin(engine, [0], dtype="bfloat16", seed=seed) for seed in range(together)]
    launch = engine.unite(sessions) if together > 1 else lambda: None
    batches = [list(session.read(training, 0, 0) if kept_there else training.epoch(0)) for session in sessions]
    images = [list(session.read_validation(validation) if kept_there else validation.read()) for session in sessions]

    def train(number):
        kept = [session.step(given[number], number) for session, given in zip(sessions, batches)]
        launch()
        return kept

    train(0)  # which captures, as does the first validation
    for session, given in zip(sessions, images):
        session.validate(given[0])
    with refusing_to_wait():
        kept = [train(number) for number in range(1, 20)]
        measured = [session.validate(batch) for session, given in zip(sessions, images) for batch in given]
    losses = [figures.result().loss for figures in (*chain.from_iterable(kept), *measured)]
    assert np.isfinite(losses).all() and len(set(losses)) > len(losses) // 2


def test_seeds_that_train_together_are_those_that_train_alone(engine, small):
    training, _ = small
    kinds = dict(dtype="bfloat16", rate=0.01, deterministic=True)
    alone, together = ([begin(engine, [0], seed=seed, **kinds) for seed in range(3)] for _ in range(2))
    launch = engine.unite(together)
    for epoch in range(2):
        readers = [replace(training, seed=seed) for seed in range(3)]
        given = [list(session.read(reader, epoch, 0)) for session, reader in zip(together, readers)]
        for number in range(20):
            going = range(3 if number < 10 else 2)  # then one of them has ended
            kept = [together[seed].step(given[seed][number], number) for seed in going]
            launch()
            expected = [alone[seed].step(given[seed][number], number).result() for seed in going]
            assert [figures.result() for figures in kept] == expected
    for one, other in zip(together, alone):
        assert_equal(one.snapshot(), other.snapshot())


@pytest.mark.parametrize("depth, text", [(8, "the whole net"), (68, "unit by unit")])
def test_a_compiled_step_is_the_step(engine, depth, text, caplog, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # what an earlier run left there is compiled at once
    caplog.set_level("INFO")
    plain, compiled = (begin(engine, [0], depth, compilation=wanted) for wanted in ("no", "yes"))
    assert [text in record.message for record in caplog.records if "Compiled" in record.message] == [True]
    expected, found = plain.step(BATCH, 0).result(), compiled.step(BATCH, 0).result()
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    assert_close(compiled.snapshot(), plain.snapshot(), 1e-3)
    assert compiled.validate(BATCH).result().loss == pytest.approx(plain.validate(BATCH).result().loss, rel=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_learns(engine, dtype):
    if dtype == "bfloat16" and torch.cuda.get_device_capability()[0] < 8:
        pytest.skip("this GPU has no bfloat16")
    session = begin(engine, [0], rate=0.03, dtype=dtype)
    losses = [session.step(BATCH, number).result().loss for number in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    assert (session.snapshot().loss_scale is not None) == (dtype == "float16")


def test_float16_leaves_out_what_overflows(engine):
    session = begin(engine, [0], dtype="float16")
    session.scaler = precision.make_scaler(session.device, (2.0**60, 5))
    before = session.snapshot()
    assert not session.step(BATCH, 0).updated
    after = session.snapshot()
    np.testing.assert_array_equal(after.params["fc1_weight"], before.params["fc1_weight"])
    assert after.loss_scale == (2.0**59, 0)


def test_a_deterministic_step_is_the_same_each_time(engine):
    """With the max pooling of the nets for large images."""
    images = RANDOM.uniform(0, 255, (32, 3, 64, 64)).astype(np.float32)
    results = []
    for _ in range(3):
        session = begin(engine, [0], 18, (3, 64, 64), deterministic=True)
        session.step(BATCH._replace(images=images), 0)
        results.append(session.snapshot().params)
    for name, array in results[0].items():
        np.testing.assert_array_equal(results[1][name], array, err_msg=name)
        np.testing.assert_array_equal(results[2][name], array, err_msg=name)


def test_mirroring_takes_less_memory_and_changes_no_bit(engine):
    peaks, results = [], []
    for memonger in (False, True):
        session = begin(engine, [0], depth=56, captures=False, memonger=memonger, deterministic=True)
        session.step(BATCH, 0).result()
        torch.cuda.reset_peak_memory_stats()
        session.step(BATCH, 1).result()
        peaks.append(torch.cuda.max_memory_allocated())
        results.append(session.snapshot().params)
        del session
    assert peaks[1] < 0.7 * peaks[0]
    for name, array in results[0].items():
        np.testing.assert_array_equal(results[1][name], array, err_msg=name)


def test_too_little_memory_is_told_with_the_batch_that_fits(engine):
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, 6 * 2**30 / total))
    try:
        with pytest.raises(UserError, match=r"too little for --batch-size 512: --batch-size (16|32|64) fits"):
            begin(engine, [0], 50, (3, 224, 224), 512)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("more", ["--dtype float16 --mixup 0.2", "--dtype bfloat16", "--compile yes"])
def test_a_deterministic_run_that_stops_is_the_run_that_does_not(records, tmp_path, monkeypatch, more):
    given = ("--deterministic", *more.split())
    runs.train(flags(records, tmp_path / "whole", *given))
    runs.stop(monkeypatch, "_step", epoch=1, batch=4, number=signal.SIGTERM)
    with pytest.raises(Interrupted):
        runs.train(flags(records, tmp_path / "cut", *given))
    runs.train(flags(records, tmp_path / "cut", "--resume"))
    runs.assert_same_run(tmp_path / "cut", tmp_path / "whole", "0006")


def test_the_commands_train_evaluate_and_predict(records, tmp_path):
    done = run("train_resnet.py", *flags(records, tmp_path, "--dtype", "bfloat16"))
    assert done.returncode == 0, done.stderr
    assert "Computing on GPU 0 (" in done.stderr
    page = tmp_path / "log/net/report.html"
    assert not page.is_file() or "Memory of GPU 0" in page.read_text()  # there is none without matplotlib
    error = entries.read(f"{tmp_path}/model/net", "0006").errors[5]
    assert error < 50
    again = run("train_resnet.py", *flags(records, tmp_path, "--eval-only"))
    assert again.returncode == 0 and abs(float(again.stdout.split("error ")[1].split("%")[0]) - error) < 3
    image = tmp_path / "bright.png"
    cv2.imwrite(str(image), np.full((32, 32, 3), 200, np.uint8))
    net = ("--prefix", f"{tmp_path}/model/net", "--epoch", "best", "--engine", "torch", "--gpu", "0")
    told = run("predict/predict.py", "--img", image, *net)
    assert told.returncode == 0 and "%" in told.stdout, told.stderr


def run(script, *arguments):
    command = [sys.executable, REPOSITORY / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_two_gpus_do_the_work_of_one(records, tmp_path):
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    done = run("train_resnet.py", *flags(records, tmp_path, "--gpus", "0,1"))
    assert done.returncode == 0, done.stderr
    assert entries.read(f"{tmp_path}/model/net", "0006").errors[5] < 50
