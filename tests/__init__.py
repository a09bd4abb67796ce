"""The tests; what several of them share is in helpers."""

import pytest

# So that the asserts of helpers tell values, as those of tests do.
pytest.register_assert_rewrite("tests.helpers")
