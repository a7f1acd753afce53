from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import Tool

from envs.errors import ToolListError
from envs.servers.mount import LONGEST_NAME, Mount, changed_tools, fingerprint, mount, offered_name
from rewards.episode import ToolCall

BROKEN = {"type": "object", "properties": {"a": {"type": "no such type"}}}


def tool(name: str, description: str = "", **schema: Any) -> Tool:
    return Tool(name=name, description=description, input_schema={"type": "object", **schema})


def mounted(served: Mapping[str, Sequence[str]]) -> Mount:
    """Mount tools of these names, all of them allowed."""
    tools = {server: [tool(name) for name in names] for server, names in served.items()}
    return mount(tools, served)


def test_the_tools_of_a_single_server_keep_their_names() -> None:
    found = mounted({"files": ["read", "write"]})
    assert list(found.tools.schemas) == ["read", "write"]
    assert found.offered == ("read", "write")
    assert found.route(ToolCall("read", {"a": 1})) == ("files", ToolCall("read", {"a": 1}))


def test_the_tools_of_several_servers_are_prefixed_and_lead_back() -> None:
    found = mounted({"files": ["read"], "my mail": ["read"]})
    assert list(found.tools.schemas) == ["files_read", "my_mail_read"]
    assert found.route(ToolCall("my_mail_read", {})) == ("my mail", ToolCall("read", {}))


def test_a_task_may_name_tools_as_offered_by_their_server_or_all_of_a_server() -> None:
    served = {"files": ["read", "write"], "my mail": ["read"]}
    tools = {server: [tool(name) for name in names] for server, names in served.items()}
    found = mount(tools, {"files": ["read"], "my mail": ["read"]})
    assert found.named("my_mail_read") == ("my_mail_read",)
    assert found.named("my mail/read") == ("my_mail_read",)
    assert found.named("files/*") == ("files_read",)
    for nothing in ("files/write", "files_write", "files/", "mail/*", "*"):
        assert found.named(nothing) == ()


def test_names_that_clash_are_numbered() -> None:
    found = mounted({"a": ["b_c", "b.c", "b c"], "a_b": ["c"]})
    assert found.routes == {
        "a_b_c": ("a", "b_c"),
        "a_b_c_2": ("a", "b.c"),
        "a_b_c_3": ("a", "b c"),
        "a_b_c_4": ("a_b", "c"),
    }


def test_a_number_that_is_taken_is_skipped() -> None:
    assert list(mounted({"one": ["a", "a_2", "a"]}).routes) == ["a", "a_2", "a_3"]


def test_a_name_that_is_too_long_keeps_its_beginning_and_stays_apart_from_others() -> None:
    names = [offered_name("server", "x" * 100 + end) for end in "ab"]
    assert names[0] != names[1]
    assert all(len(name) == LONGEST_NAME and name.startswith("server_xxx") for name in names)
    longest = "x" * LONGEST_NAME
    assert offered_name("", longest) == longest
    clashing = mounted({"one": [longest, longest]})
    assert list(clashing.routes) == [longest, f"{'x' * (LONGEST_NAME - 2)}_2"]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=70), st.lists(st.text(max_size=70), max_size=4), max_size=3
    )
)
def test_every_tool_can_be_called_by_a_name_that_models_can_write(
    served: dict[str, list[str]],
) -> None:
    found = mounted(served)
    assert sorted(found.routes.values()) == sorted(
        (server, name) for server, names in served.items() for name in names
    )
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in found.routes)
    assert set(found.routes) == set(found.tools.schemas) == set(found.tools.validators)


def test_a_tool_that_is_not_allowed_can_be_probed_but_is_not_offered() -> None:
    found = mount({"files": [tool("read"), tool("delete")]}, {"files": ["read"]})
    assert found.offered == ("read",)
    assert "delete" in found.tools.schemas


def test_a_broken_schema_is_an_error_only_where_the_tool_is_to_be_offered() -> None:
    tools = {"files": [tool("read"), Tool(name="bad", input_schema=BROKEN)]}
    assert list(mount(tools, {"files": ["read"]}).tools.schemas) == ["read"]
    with pytest.raises(ToolListError, match="tool 'bad' is broken"):
        mount(tools, {"files": ["read", "bad"]})


def test_the_fingerprint_does_not_depend_on_the_order_of_the_list() -> None:
    tools = [tool(f"tool {n}", properties={"b": {}, "a": {}}) for n in range(20)]
    shuffled = [tool(f"tool {n}", properties={"a": {}, "b": {}}) for n in range(20)]
    random.Random(0).shuffle(shuffled)
    assert fingerprint(tools) == fingerprint(shuffled)
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(tools))


@pytest.mark.parametrize(
    "other",
    [
        tool("b"),
        tool("a", "another description"),
        tool("a", properties={"x": {"type": "string"}}),
        Tool(name="a", input_schema={"type": "object"}, output_schema={"type": "object"}),
    ],
)
def test_the_fingerprint_shows_every_change(other: Tool) -> None:
    assert fingerprint([tool("a")]) != fingerprint([other])


def test_a_change_of_a_tool_list_is_told_in_words() -> None:
    before = [tool("kept"), tool("c", "old"), tool("g2"), tool("g1")]
    after = [tool("n"), tool("c", "new"), tool("kept")]
    assert changed_tools(before, before[::-1]) == ""
    assert changed_tools(before, after) == "new: n; gone: g1, g2; changed: c"
    assert changed_tools([], [tool("n")]) == "new: n"
