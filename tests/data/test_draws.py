"""The random numbers of an epoch, a record at a time, are those that were drawn for all records at once."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mxnet_resnet.data.augment import DRAWS
from mxnet_resnet.data.draws import Draws, shuffle


@pytest.mark.parametrize("seed, epoch", [(0, 0), (7, 3), (2**31, 119)])
def test_the_draws_of_a_record_are_its_row_of_all(seed, epoch):
    """Runs of before drew all of an epoch in this way, and go on as they were."""
    expected = np.random.default_rng([seed, epoch, 1]).random((1001, DRAWS), np.float32)
    draws = Draws(seed, epoch)
    np.testing.assert_array_equal(draws.rows(1001), expected)
    for each in (draws, pickle.loads(pickle.dumps(draws))):
        np.testing.assert_array_equal([each.row(number) for number in (*range(1001), 0, 999, 500)][:1001], expected)


def test_the_draws_of_a_record_far_away_are_those_of_the_stream():
    draws = np.random.default_rng([1, 2, 1]).random((300_000, DRAWS), np.float32)
    np.testing.assert_array_equal(Draws(1, 2).row(299_999), draws[-1])
    assert Draws(1, 2).row(12_400_000).max() < 1  # without the 645 MB before it


def test_threads_share_draws():
    draws, numbers = Draws(5, 6), np.random.default_rng(0).permutation(4000).tolist()
    with ThreadPoolExecutor(8) as pool:
        np.testing.assert_array_equal(list(pool.map(draws.row, numbers)), draws.rows(4000)[numbers])


@pytest.mark.parametrize("count", [1, 2, 5, 360, 100_003])
def test_the_order_is_that_of_a_permutation_in_half_of_the_memory(count):
    order = shuffle(3, 5, count)
    np.testing.assert_array_equal(order, np.random.default_rng([3, 5]).permutation(count))
    assert order.dtype == np.int32
