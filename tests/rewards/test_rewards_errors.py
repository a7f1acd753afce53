from __future__ import annotations

import inspect

from rewards import errors
from rewards.errors import RewardsError, did_you_mean


def test_every_error_is_in_the_one_tree_and_drawn_in_the_docstring():
    classes = [
        cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, Exception)
    ]
    assert len(classes) == 6
    assert all(issubclass(cls, RewardsError) for cls in classes)
    assert all(cls.__name__ in errors.__doc__ for cls in classes)


def test_a_close_name_is_suggested_and_a_far_one_is_not():
    assert did_you_mean("orcale", ["oracle", "echo"]) == '; did you mean "oracle"?'
    assert did_you_mean("zzz", ["oracle", "echo"]) == ""
