"""A step is work of the device alone, which it can repeat: alone or with others, from data that it keeps."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from mxnet_resnet.base.errors import UserError  # noqa: E402
from mxnet_resnet.data import augment, recordio  # noqa: E402
from mxnet_resnet.data.reader import TrainingRecords, ValidationRecords  # noqa: E402
from mxnet_resnet.data.writer import RecordWriter  # noqa: E402
from mxnet_resnet.engines.base import TrainingSpec  # noqa: E402
from mxnet_resnet.engines.torch import capture, devices, figures, team  # noqa: E402
from mxnet_resnet.engines.torch.engine import TorchEngine  # noqa: E402
from mxnet_resnet.engines.torch.feeds import ResidentFeed  # noqa: E402
from mxnet_resnet.engines.torch.group import ProcessGroup  # noqa: E402
from mxnet_resnet.engines.torch.resident import DataSets  # noqa: E402
from mxnet_resnet.engines.torch.training import TrainingModel  # noqa: E402
from mxnet_resnet.plans import architecture  # noqa: E402

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
PLAN = replace(architecture.symbolic_v2(20, "cifar"), dimensions=((1, 4), (1, 4), (1, 6), (1, 8)))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A file of 50 images of 36 x 34 pixels."""
    path = tmp_path_factory.mktemp("records") / "train"
    with RecordWriter(path) as writer:
        for number in range(50):
            image = RANDOM.integers(0, 256, (36, 34, 3), dtype=np.uint8)
            writer.write(number, number % 10, cv2.imencode(".png", image)[1].tobytes(), f"{number}.png")
    return path.with_suffix(".rec")


def of_training(path, **more):
    given = dict(image_shape=(3, 32, 32), batch_size=8, augmentation=augment.LEVELS[1], pad=4, mirror=True, seed=3)
    return TrainingRecords(path, recordio.scan(path), **{**given, **more})


def of_validation(path, **more):
    return ValidationRecords(path, recordio.scan(path), **{"image_shape": (3, 32, 32), "batch_size": 8, **more})


def begin(seed=0, **options):
    spec = TrainingSpec(10, (3, 32, 32), 8, lambda step: 0.01 / (1 + step), seed=seed, **options)
    model = TrainingModel(PLAN, spec, CPU)
    model.prepare()
    return model.start(ProcessGroup(), None, 0)


@pytest.fixture
def repeating(monkeypatch):
    """Sessions on the CPU that think they are on a GPU: what would be captured is kept, and computed at each replay.

    What is counted is written to the place that it had at first, as a graph does.
    """

    def keep(pieces, streams, device):
        places = {}

        def replay():
            for piece in pieces:
                piece()
                counted = vars(getattr(piece, "func", piece).__self__)
                for name in {"_sums", "_measured", "_best"} & counted.keys():
                    place = places.setdefault((id(counted), name), counted[name])
                    counted[name] = place.copy_(counted[name])

        return replay

    monkeypatch.setattr(capture, "capture", keep)

    def start(seed=0, **options):
        begun = begin(seed, **options)
        begun.captures = True
        begun.data_sets.validated = 0  # in the batches of the reader
        return begun

    return start


def assert_equal(found, expected):
    for kind in ("params", "statistics", "momentum"):
        for name, array in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], array, err_msg=name)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"pad": 0},
        {"mirror": False},
        {"image_shape": (3, 28, 30), "pad": 0},
        {"part": 1, "num_parts": 3, "batch_size": 4},
        {"pad": 0, "image_shape": (3, 36, 34)},
    ],
)
def test_crops_that_a_device_cuts_are_those_of_the_reader(records, more):
    reader = of_training(records, **more)
    data = DataSets(CPU, 2**30)
    for epoch, skip in ((0, 0), (5, 2)):
        expected, found = list(reader.epoch(epoch, skip)), list(data.read(reader, epoch, skip))
        assert len(found) == len(expected) == reader.batches - skip
        for batch, places in zip(expected, found):
            feed = ResidentFeed(places, places.data)
            feed.load(places)
            images, labels = feed.take()
            np.testing.assert_array_equal(images.numpy(), batch.images)
            np.testing.assert_array_equal(labels.numpy(), batch.labels)
            np.testing.assert_array_equal(places.labels, batch.labels)
            assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("more", [{}, {"image_shape": (3, 24, 24)}, {"part": 1, "num_parts": 3}, {"batch_size": 64}])
def test_validation_images_are_those_of_the_reader(records, more):
    reader = of_validation(records, **more)
    expected, found = list(reader.read()), list(DataSets(CPU, 2**30, validated=0).read_validation(reader))
    assert len(found) == len(expected)
    for batch, places in zip(expected, found):
        np.testing.assert_array_equal(places.data.cut(places.places).numpy(), batch.images)
        np.testing.assert_array_equal(places.labels, batch.labels)
        assert places.count == batch.count


def test_small_images_are_validated_many_at_a_time(records):
    reader = of_validation(records)
    (found,) = DataSets(CPU, 2**30).read_validation(reader)
    assert (len(found.labels), found.count) == (1024, 50)
    expected = np.concatenate([batch.images[: batch.count] for batch in reader.read()])
    np.testing.assert_array_equal(found.data.cut(found.places[:, :50]).numpy(), expected)
    dealt = list(DataSets(CPU, 2**30, validated=20 * 32**2).read_validation(reader))
    assert [(len(batch.labels), batch.count) for batch in dealt] == [(20, 20), (20, 20), (20, 10)]


def test_what_does_not_fit_or_is_drawn_otherwise_is_read(records, tmp_path):
    assert DataSets(CPU, 50 * 36 * 34 * 3 - 1).read(of_training(records), 0, 0) is None
    assert DataSets(CPU, 50 * 36 * 34 * 3).read(of_training(records), 0, 0) is not None
    data = DataSets(CPU, 2**30)
    assert data.read(of_training(records, image_shape=(3, 48, 48)), 0, 0) is None  # it would be enlarged
    for level in (2, 3):
        assert data.read(of_training(records, augmentation=augment.LEVELS[level]), 0, 0) is None
    with RecordWriter(tmp_path / "mixed") as writer:
        for number, side in enumerate((40, 40, 41)):
            image = cv2.imencode(".png", np.zeros((side, 40, 3), np.uint8))[1].tobytes()
            writer.write(number, 0, image, f"{number}.png")
    assert data.read(of_training(tmp_path / "mixed.rec", batch_size=1), 0, 0) is None


def test_a_data_set_is_decoded_once(records, monkeypatch):
    counted = Counter()
    data = DataSets(CPU, 2**30)
    bring = data._bring
    monkeypatch.setattr(data, "_bring", lambda wanted: counted.update([type(wanted)]) or bring(wanted))
    for epoch in range(3):
        list(data.read(of_training(records, seed=epoch), epoch, 0))
        list(data.read_validation(of_validation(records)))
    assert counted == {TrainingRecords: 1, ValidationRecords: 1}


class Watching(TorchDispatchMode):
    """Fails on what waits for a GPU, or comes from the host."""

    waits = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero", "masked_select", "lift_fresh", "unique")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert not any(name in str(function) for name in self.waits), function
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": "bfloat16"},
        {"label_smoothing": 0.1},
        {"optimizer": "sgd"},
        {"momentum": 0.0},
        {"weight_decay": 0.0, "decayed": "all"},
    ],
)
def test_a_step_and_a_validation_wait_for_nothing(records, repeating, options):
    begun = repeating(**options)
    places = next(begun.read(of_training(records), 0, 0))
    begun.feed = begun._load(places)
    with Watching():
        begun.compute()
        begun._measure(begun.feed)


def test_figures_are_not_read_by_a_step(records, repeating):
    plain, begun = begin(), repeating()
    batches = list(begun.read(of_training(records), 0, 0))
    begun.step(batches[0], 0)  # which rehearses, and captures
    images = list(begun.read_validation(of_validation(records)))
    begun.validate(images[0])
    with Watching():
        kept = [begun.step(batch, number) for number, batch in enumerate(batches[1:], 1)]
        measured = [begun.validate(batch) for batch in images]
    assert len({pending._best.data_ptr() for pending in measured}) == len(measured)
    # Each has its own, though all are written to one place.
    expected = [plain.step(batch, number).result() for number, batch in enumerate(of_training(records).epoch(0))]
    assert [pending.result() for pending in kept] == expected[1:]
    for pending, batch in zip(measured, of_validation(records).read()):
        found, wanted = pending.result(), plain.validate(batch).result()
        assert found.loss == wanted.loss and found.classes.tolist() == wanted.classes.tolist()


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "optimizer": "sgd", "dtype": "bfloat16"}])
def test_a_repeated_step_is_the_step(records, repeating, options):
    """From the data on the device, with the validation between, and from batches that are read."""
    plain, captured, fed = begin(**options), repeating(**options), repeating(**options)
    reader, number = of_training(records), 0
    for epoch in range(2):
        for batch, places in zip(reader.epoch(epoch), captured.read(reader, epoch, 0)):
            expected = plain.step(batch, number).result()
            assert captured.step(places, number).result() == expected
            assert fed.step(batch, number).result() == expected
            number += 1
        for batch, places in zip(of_validation(records).read(), captured.read_validation(of_validation(records))):
            expected, found = plain.validate(batch).result(), captured.validate(places).result()
            np.testing.assert_array_equal(found.classes, expected.classes)
            assert (found.images, found.correct, found.loss) == (expected.images, expected.correct, expected.loss)
            assert fed.validate(batch).result().loss == expected.loss
    for other in (captured, fed):
        assert_equal(other.snapshot(), plain.snapshot())


def test_rehearsals_leave_nothing_behind(records):
    for options in ({}, {"dtype": "float16"}, {"dtype": "bfloat16", "optimizer": "sgd"}):
        begun = begin(**options)
        for number, batch in enumerate(of_training(records).epoch(0)):
            begun.step(batch, number).result()
        before = begun.snapshot()
        begun.rehearse(3)
        assert_equal(begun.snapshot(), before)
        assert begun.snapshot().loss_scale == before.loss_scale


def test_nets_that_train_together_are_those_that_train_alone(records, repeating):
    """At different batches, and when one ends before the others."""
    engine = TorchEngine()
    alone, together = [begin(seed) for seed in range(3)], [repeating(seed) for seed in range(3)]
    launch = engine.unite(together)
    reader = of_training(records)
    batches = [list(replace(reader, seed=seed).epoch(0, skip=seed)) for seed in range(3)]
    places = [list(one.read(replace(reader, seed=seed), 0, seed)) for seed, one in enumerate(together)]
    assert len({id(one.data_sets) for one in together}) == 1
    for number in range(7):
        going = [seed for seed in range(3) if number < len(batches[seed])]
        expected = [alone[seed].step(batches[seed][number], number).result() for seed in going]
        pending = [together[seed].step(places[seed][number], number) for seed in going]
        launch()
        assert [figures.result() for figures in pending] == expected
    for one, other in zip(together, alone):
        assert_equal(one.snapshot(), other.snapshot())


def test_a_graph_is_made_once_for_what_it_serves(records, repeating, monkeypatch):
    made = []
    keep = capture.capture
    monkeypatch.setattr(capture, "capture", lambda *given: made.append(len(given[0])) or keep(*given))
    begun = repeating()
    reader, number = of_training(records), 0
    for epoch in range(3):
        for places in begun.read(reader, epoch, 0):
            begun.step(places, number)
            number += 1
        for places in begun.read_validation(of_validation(records)):
            begun.validate(places)
    assert made == [1, 1]
    begun.step(next(reader.epoch(0)), number)  # read, as from the epoch on at which the augmentation changes
    assert made == [1, 1, 1]
    begun.validate(next(of_validation(records).read()))
    assert made == [1, 1, 1, 1]


def test_sessions_on_the_cpu_read_figures_soon_and_records_themselves(records):
    begun = begin()
    assert begun.in_flight == 2
    assert begun.read(of_training(records), 0, 0) is None and begun.read_validation(of_validation(records)) is None


def test_memory_that_is_too_little_for_all_seeds_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * 2**30, 16 * 2**30))
    monkeypatch.setattr(devices, "describe_memory", lambda device: "GPU 0 has 16 GB")
    team._check_memory(CPU, [3 * 2**30] * 3)
    with pytest.raises(UserError, match="GPU 0 has 16 GB, too little for 4 seeds at once: 3 would fit"):
        team._check_memory(CPU, [3 * 2**30] * 4)


def test_losses_are_those_of_torch(records):
    """With the smoothing that MXNet has, among the other classes."""
    scores, labels = torch.randn(6, 4), torch.arange(6) % 4
    shares = torch.full((6, 4), 0.1 / 3).scatter(1, labels[:, None], 0.9)
    expected = -(shares * scores.log_softmax(dim=1)).sum(dim=1).mean()
    assert torch.allclose(figures.compute_loss(scores, labels, 0.1), expected)
    assert torch.allclose(figures.compute_loss(scores, shares, 0.5), expected)  # smooth already
