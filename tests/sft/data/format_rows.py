"""Rows as the data sets have them, one or more for each format, and what they become."""

from __future__ import annotations

import json
from typing import Any

Row = dict[str, Any]

WEATHER: Row = {
    "name": "get_weather",
    "description": "Weather of a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}
TIME: Row = {
    "name": "get_time",
    "description": "The time",
    "parameters": {"type": "object", "properties": {}},
}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": TIME}]


def call(name: str, /, **arguments: Any) -> Row:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def user(content: str) -> Row:
    return {"role": "user", "content": content}


def assistant(content: str, *calls: Row, **fields: Any) -> Row:
    made = {"tool_calls": list(calls)} if calls else {}
    return {"role": "assistant", "content": content, **made, **fields}


def tool(content: str, **fields: Any) -> Row:
    return {"role": "tool", "content": content, **fields}


def system(content: str) -> Row:
    return {"role": "system", "content": content}


ASKED = "Weather in St John's?"
FOUND = '{"t": 3}'
SAID = "It is 3 degrees."
CONVERSATION = [
    user(ASKED),
    assistant("", call("get_weather", city="St John's")),
    tool(FOUND),
    assistant(SAID),
]

GLAIVE_LEAD = (
    "SYSTEM: You are a helpful assistant with access to the following functions. "
    "Use them if required -\n"
)
GLAIVE_SYSTEM = GLAIVE_LEAD + json.dumps(WEATHER, indent=1) + "\n\n" + json.dumps(TIME) + "\n"
GLAIVE_CALL = """{"name": "get_weather", "arguments": '{"city": "St John's"}'}"""
GLAIVE_CHAT = (
    f"USER: {ASKED}\n\n\nASSISTANT: <functioncall> {GLAIVE_CALL} <|endoftext|>\n\n\n"
    f"FUNCTION RESPONSE: {FOUND}\n\n\nASSISTANT: {SAID} <|endoftext|>\n"
)

SHAREGPT_TURNS = [
    {"from": "human", "value": ASKED},
    {
        "from": "function_call",
        "value": json.dumps({"name": "get_weather", "arguments": {"city": "St John's"}}),
    },
    {"from": "observation", "value": FOUND},
    {"from": "gpt", "value": SAID},
]
HERMES_LEAD = (
    "You are a function calling AI model. You are provided with function signatures within "
    f"<tools> </tools> XML tags. Here are the available tools:<tools> {TOOLS!r} </tools>Use "
    "<tool_call>\n{tool_call}\n</tool_call>"
)
HERMES_CALL = (
    """<tool_call>\n{'arguments': {'city': "St John's"}, 'name': 'get_weather'}\n</tool_call>"""
)
TOOLACE_LEAD = (
    "You are an expert in composing functions. You are given a question and a set of possible "
    "functions.\nHere is a list of functions in JSON format that you can invoke:\n"
)
TINYAGENT_PLANNER = (
    "Given a user query, create a plan. Each action is one of these 3 types:\n"
    "1. get_phone_number(name: str) -> str\n - Search for a contact by name.\n"
    " - Returns the phone number.\n\n"
    "2. send_sms(recipients: list[str], message: str) -> str\n - Send an SMS.\n\n"
    "3. join():\n - Collects and combines results.\n\nGuidelines:\n - Never explain.\n"
)
TINYAGENT_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "join",
            "description": "Joins the results.",
            "parameters": {"type": "object", "properties": {}},
        },
    },
    {
        "type": "function",
        "function": {
            "name": "get_phone_number",
            "description": "Search for a contact by name.\nReturns the phone number.",
            "parameters": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "send_sms",
            "description": "Send an SMS.",
            "parameters": {
                "type": "object",
                "properties": {
                    "recipients": {"type": "array", "items": {"type": "string"}},
                    "message": {"type": "string"},
                },
                "required": ["recipients", "message"],
            },
        },
    },
]
TINYAGENT_PLAN = [
    {"tool_name": "get_phone_number", "tool_args": ["Ann"]},
    {"tool_name": "send_sms", "tool_args": [["$1"], "Hi"]},
    {"tool_name": "join", "tool_args": []},
]
TINYAGENT_CALLS = [
    call("get_phone_number", name="Ann"),
    call("send_sms", recipients=["$1"], message="Hi"),
    call("join"),
]
TINYAGENT_ROW: Row = {
    "ab-1": {
        "input": "Text Ann hi",
        "output": [
            {
                "type": "plan",
                "raw_input": f"{TINYAGENT_PLANNER}\nQuestion: Text Ann hi",
                "raw_output": '1. get_phone_number("Ann")\n2. send_sms(["$1"], "Hi")\n3. join()'
                "<END_OF_PLAN>",
                "parsed_output": TINYAGENT_PLAN,
            },
            {
                "type": "join",
                "raw_input": [
                    {"role": "system", "content": "Decide: Finish or Replan."},
                    {"role": "user", "content": "Question: Text Ann hi\nsend_sms: sent"},
                ],
                "raw_output": "Thought: It was sent.\nAction: Finish(Done.)<END_OF_RESPONSE>",
                "parsed_output": {
                    "thought": "It was sent.",
                    "action": "Finish",
                    "message": "Done.",
                },
            },
        ],
    }
}

ROWS: dict[str, Row] = {
    "glaive": {"system": GLAIVE_SYSTEM, "chat": GLAIVE_CHAT},
    "glaive-v1": {"sample": GLAIVE_SYSTEM + GLAIVE_CHAT},
    "togethercomputer": {
        "function_description": json.dumps(WEATHER) + "\n\n" + json.dumps(TIME),
        "conversations": [
            {"role": "user", "content": ASKED},
            {"role": "function-call", "content": GLAIVE_CALL},
            {"role": "function-response", "content": FOUND},
            {"role": "assistant", "content": SAID},
        ],
    },
    "glaive-sharegpt": {"conversations": SHAREGPT_TURNS, "tools": json.dumps([WEATHER, TIME])},
    "xlam": {
        "id": 7,
        "query": ASKED,
        "tools": json.dumps(
            [
                {
                    "name": "get_weather",
                    "description": "Weather of a city",
                    "parameters": {
                        "city": {"description": "Its name", "type": "str"},
                        "type": {"description": "Kind", "type": "str", "default": "now"},
                        "hours": {"description": "Hours", "type": "List[int], optional"},
                    },
                }
            ]
        ),
        "answers": json.dumps(
            [{"name": "get_weather", "arguments": {"city": "St John's", "type": "now"}}]
        ),
    },
    "hermes": {
        "id": "h-1",
        "conversations": [
            {"from": "system", "value": HERMES_LEAD},
            {"from": "human", "value": ASKED},
            {"from": "gpt", "value": f"<think>\nLook.\n</think>\n{HERMES_CALL}"},
            {"from": "tool", "value": f"<tool_response>\n{FOUND}\n</tool_response>\n"},
            {"from": "gpt", "value": SAID},
        ],
        "tools": json.dumps(TOOLS),
        "category": "Weather",
    },
    "messages": {
        "messages": [
            system("You help. You have these tools:\n" + json.dumps([WEATHER, TIME])),
            user(ASKED),
            assistant('{"tool": "get_weather", "arguments": {"city": "St John\'s"}}'),
            tool(FOUND),
            assistant(SAID),
        ]
    },
    "toucan": {
        "uuid": "u-1",
        "subset_name": "single-turn-original",
        "messages": json.dumps(
            [
                user(ASKED),
                {
                    "role": "assistant",
                    "content": "",
                    "function_call": {
                        "name": "get_weather",
                        "arguments": '{"city": "St John\'s"}',
                    },
                },
                {"role": "function", "content": FOUND, "name": "get_weather"},
                assistant(SAID, reasoning_content="Done."),
            ]
        ),
        "available_tools": json.dumps(TOOLS),
        "target_tools": "get_weather",
    },
    "apigen-mt": {
        "system": "Follow the policy.",
        "conversations": SHAREGPT_TURNS,
        "tools": json.dumps([WEATHER, TIME]),
    },
    "toolace": {
        "system": TOOLACE_LEAD
        + json.dumps(
            [
                {
                    "name": "Get Weather/v2",
                    "description": "Weather of a city",
                    "parameters": {
                        "type": "dict",
                        "properties": {
                            "city": {"type": "string"},
                            "hot": {"type": "bool"},
                            "at": {"type": "dict", "properties": {"h": {"type": "int"}}},
                        },
                        "required": ["city"],
                    },
                    "required": None,
                }
            ]
        )
        + ".\nShould you decide to return the function call(s), use [func1(a=b)].",
        "conversations": [
            {"from": "user", "value": ASKED},
            {
                "from": "assistant",
                "value": "[Get Weather/v2(city=\"St John's (NL)\", hot=True, at={'h': 3})]",
            },
            {"from": "tool", "value": '[{"name": "Get Weather/v2", "results": {"t": 3}}]'},
            {"from": "assistant", "value": SAID},
        ],
    },
    "when2call": {
        "tools": [json.dumps(WEATHER | {"parameters": {**WEATHER["parameters"], "type": "dict"}})],
        "messages": [
            user(ASKED),
            assistant(
                '<TOOLCALL>[{"name": "get_weather", '
                '"arguments": {"city": "St John\'s"}}]</TOOLCALL>'
            ),
        ],
    },
    "trl": {
        "messages": [
            user(ASKED),
            assistant(
                '<tool_call>\n{"name": "get_weather", "arguments": {"city": "St John\'s"}}\n'
                "</tool_call>",
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "St John\'s"}'},
                },
            ),
            tool(FOUND, tool_call_id="c1"),
            {**assistant(SAID), "tool_calls": []},
        ],
        "tools": TOOLS,
    },
    "tinyagent": TINYAGENT_ROW,
}
"""Format -> a row of it."""
