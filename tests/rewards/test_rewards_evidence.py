from __future__ import annotations

import pytest

from rewards import (
    AllOf,
    AnyOf,
    Custom,
    FinalAnswer,
    FolderState,
    NoCall,
    Probe,
    ToolCall,
    probe_key,
    probes_of,
    wants_files,
)

READ_A = Probe("read", {"path": "a", "lines": 2}, "", 1)
READ_A_ELSEWHERE = Probe("read", {"lines": 2, "path": "a"}, "content", 3, "contains")
READ_B = Probe("read", {"path": "b"}, "", 1)


def test_the_probes_of_a_combination_are_made_once_each_and_in_order():
    goal = AllOf((READ_B, AnyOf((READ_A, FinalAnswer("x"), AllOf((READ_A_ELSEWHERE,))))))
    assert list(probes_of(goal)) == [
        ToolCall("read", {"path": "b"}),
        ToolCall("read", {"path": "a", "lines": 2}),
    ]
    assert probes_of(FinalAnswer("x")) == ()


def test_the_key_of_a_probe_depends_on_the_call_alone():
    one, two = (
        ToolCall("read", arguments) for arguments in ({"a": 1, "b": [2]}, {"b": [2], "a": 1})
    )
    assert probe_key(one) == probe_key(two) == 'read {"a": 1, "b": [2]}'
    assert probe_key(ToolCall("read", {})) != probe_key(ToolCall("write", {}))


@pytest.mark.parametrize(
    ("goal", "wanted"),
    [
        (FolderState({"a": None}), True),
        (AllOf((NoCall(), AnyOf((FolderState({}),)))), True),
        (Custom("module:function"), True),
        (READ_A, False),
        (NoCall(), False),
    ],
)
def test_the_folder_is_looked_at_where_a_goal_may_ask_for_it(goal, wanted):
    assert wants_files(goal) is wanted
