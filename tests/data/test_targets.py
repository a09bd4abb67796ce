import numpy as np
import pytest

from mxnet_resnet.data.batch import Batch
from mxnet_resnet.data.targets import distributions, mixed


@pytest.mark.parametrize("classes, smoothing, on, off", [(3, 0.0, 1, 0), (5, 0.1, 0.9, 0.025), (1, 0.1, 0.9, 0)])
def test_the_other_classes_share_the_smoothing_evenly(classes, smoothing, on, off):
    labels = np.array([0, classes - 1], np.float32)
    expected = np.full((2, classes), off, np.float32)
    expected[0, 0] = expected[1, -1] = on
    found = distributions(labels, classes, smoothing)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_image_is_mixed_with_that_at_the_other_end(dtype):
    """The share is the one drawn; the arithmetic is float32, so that a run is the same with any engine."""
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 6)).astype(np.float32)
    batch = Batch(images.astype(dtype), np.array([0, 1, 2, 2], np.float32), 4)
    found = mixed(batch, 0.2, classes=3, smoothing=0, place=(7, 1, 2))
    share = float(np.random.default_rng([7, 1, 2, 2]).beta(0.2, 0.2))
    ours, theirs = np.float32(share), np.float32(1 - share)
    np.testing.assert_array_equal(found.images, images * ours + images[::-1] * theirs)
    np.testing.assert_array_equal(found.labels[0], [ours, 0, theirs])
    np.testing.assert_array_equal(found.labels[1], [0, ours, theirs])
    assert found.images.dtype == found.labels.dtype == np.float32
    np.testing.assert_array_equal(batch.images, images)  # the batch itself stays
    assert not np.array_equal(mixed(batch, 0.2, 3, 0, (7, 1, 3)).images, found.images)
