from __future__ import annotations

import pytest

from rewards.errors import GoalError, PathNotFound
from rewards.jsonpath import look_up, parse_path

DATA = {"rows": [{"city": "Rome"}, {"city": None}], "a.b": {"[0]": 7}, "n": [[1, 2], [3]]}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("", DATA),
        ("rows", DATA["rows"]),
        ("rows[0].city", "Rome"),
        ("rows[-1].city", None),
        ("n[0][1]", 2),
        ('["a.b"]["[0]"]', 7),
    ],
)
def test_a_path_points_at_one_value(path, value):
    assert look_up(DATA, path) == value


def test_a_path_may_start_with_an_index():
    assert look_up([{"x": 1}], "[0].x") == 1


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("rows[2]", "outside of a list of 2"),
        ("rows[-3]", "outside of a list of 2"),
        ("row", 'there is no "row"'),
        ("rows.city", '"city" needs an object'),
        ("a[0]", 'there is no "a"'),
        ("rows[0][0]", "needs a list"),
        ("rows[0].city.name", '"name" needs an object'),
    ],
)
def test_a_path_to_nothing_says_where_it_stops(path, problem):
    with pytest.raises(PathNotFound, match=problem.replace("[", r"\[")):
        look_up(DATA, path)


@pytest.mark.parametrize("path", [".rows", "rows.", "rows..x", "rows[", "rows[x]", "rows[*]", "a]"])
def test_a_malformed_path_is_an_error(path):
    with pytest.raises(GoalError, match="malformed at character"):
        parse_path(path)


def test_keys_after_an_index_need_their_dot():
    with pytest.raises(GoalError, match="malformed at character 8"):
        parse_path("rows[0]city")
