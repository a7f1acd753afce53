"""What the rows of `format_rows.py` become."""

from __future__ import annotations

from format_rows import (
    ASKED,
    CONVERSATION,
    FOUND,
    SAID,
    TINYAGENT_CALLS,
    TINYAGENT_TOOLS,
    TOOLS,
    WEATHER,
    Row,
    assistant,
    call,
    system,
    tool,
    user,
)

FIRST_TOOL = [{"type": "function", "function": WEATHER}]
BASE: Row = {"model": "", "timestamp": "", "truncated": False}
CANONICAL: dict[str, list[Row]] = {
    "glaive": [
        {
            "id": "rows-1",
            "messages": CONVERSATION,
            "tools": TOOLS,
            "source": "glaiveai/glaive-function-calling-v2",
            "licence": "apache-2.0",
            "normalised": ["python_literal"],
        }
    ],
    "glaive-v1": [
        {
            "id": "rows-1",
            "messages": CONVERSATION,
            "tools": TOOLS,
            "source": "glaiveai/glaive-function-calling",
            "licence": "apache-2.0",
            "normalised": ["python_literal"],
        }
    ],
    "togethercomputer": [
        {
            "id": "rows-1",
            "messages": CONVERSATION,
            "tools": TOOLS,
            "source": "togethercomputer/glaive-function-calling-v2-formatted",
            "licence": "",
            "normalised": ["python_literal"],
        }
    ],
    "glaive-sharegpt": [
        {
            "id": "rows-1",
            "messages": CONVERSATION,
            "tools": TOOLS,
            "source": "rows",
            "licence": "",
        }
    ],
    "xlam": [
        {
            "id": "7",
            "messages": [
                user(ASKED),
                assistant("", call("get_weather", city="St John's", type="now")),
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "get_weather",
                        "description": "Weather of a city",
                        "parameters": {
                            "type": "object",
                            "properties": {
                                "city": {"type": "string", "description": "Its name"},
                                "type": {
                                    "type": "string",
                                    "description": "Kind",
                                    "default": "now",
                                },
                                "hours": {
                                    "type": "array",
                                    "items": {"type": "integer"},
                                    "description": "Hours",
                                },
                            },
                            "required": ["city"],
                        },
                    },
                }
            ],
            "source": "Salesforce/xlam-function-calling-60k",
            "licence": "cc-by-4.0",
        }
    ],
    "hermes": [
        {
            "id": "h-1",
            "messages": [
                user(ASKED),
                assistant("", call("get_weather", city="St John's"), reasoning_content="Look."),
                *CONVERSATION[2:],
            ],
            "tools": TOOLS,
            "source": "rows",
            "licence": "",
            "normalised": ["python_literal", "tool_response_unwrapped"],
        }
    ],
    "messages": [
        {
            "id": "rows-1",
            "messages": [system("You help. You have these tools:"), *CONVERSATION],
            "tools": TOOLS,
            "source": "rows",
            "licence": "",
        }
    ],
    "toucan": [
        {
            "id": "u-1",
            "messages": [
                *CONVERSATION[:2],
                tool(FOUND, name="get_weather"),
                assistant(SAID, reasoning_content="Done."),
            ],
            "tools": TOOLS,
            "source": "Agent-Ark/Toucan-1.5M",
            "licence": "apache-2.0",
            "normalised": ["double_encoded"],
        }
    ],
    "apigen-mt": [
        {
            "id": "rows-1",
            "messages": [system("Follow the policy."), *CONVERSATION],
            "tools": TOOLS,
            "source": "Salesforce/APIGen-MT-5k",
            "licence": "cc-by-nc-4.0",
            "contaminates": ["tau-bench"],
        }
    ],
    "toolace": [
        {
            "id": "rows-1",
            "messages": [
                user(ASKED),
                assistant("", call("Get_Weather_v2", city="St John's (NL)", hot=True, at={"h": 3})),
                tool('[{"name": "Get Weather/v2", "results": {"t": 3}}]'),
                assistant(SAID),
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "Get_Weather_v2",
                        "description": "Weather of a city",
                        "parameters": {
                            "type": "object",
                            "properties": {
                                "city": {"type": "string"},
                                "hot": {"type": "boolean"},
                                "at": {
                                    "type": "object",
                                    "properties": {"h": {"type": "integer"}},
                                },
                            },
                            "required": ["city"],
                        },
                    },
                }
            ],
            "source": "Team-ACE/ToolACE",
            "licence": "apache-2.0",
            "renamed_tools": {"Get_Weather_v2": "Get Weather/v2"},
            "normalised": ["tool_renamed"],
        }
    ],
    "when2call": [
        {
            "id": "rows-1",
            "messages": CONVERSATION[:2],
            "tools": FIRST_TOOL,
            "source": "nvidia/When2Call",
            "licence": "cc-by-4.0",
            "contaminates": ["BFCL"],
        }
    ],
    "trl": [
        {
            "id": "rows-1",
            "messages": [
                user(ASKED),
                assistant("", {"id": "c1", **call("get_weather", city="St John's")}),
                tool(FOUND, tool_call_id="c1"),
                assistant(SAID),
            ],
            "tools": TOOLS,
            "source": "rows",
            "licence": "",
            "normalised": ["double_encoded", "empty_tool_calls", "repeated_call_text"],
        }
    ],
    "tinyagent": [
        {
            "id": "ab-1-1",
            "messages": [user("Text Ann hi"), assistant("", *TINYAGENT_CALLS)],
            "tools": TINYAGENT_TOOLS,
            "source": "squeeze-ai-lab/TinyAgent-dataset",
            "licence": "",
        },
        {
            "id": "ab-1-2",
            "messages": [
                system("Decide: Finish or Replan."),
                user("Question: Text Ann hi\nsend_sms: sent"),
                assistant("Thought: It was sent.\nAction: Finish(Done.)"),
            ],
            "tools": [],
            "source": "squeeze-ai-lab/TinyAgent-dataset",
            "licence": "",
        },
    ],
}
"""Format -> what the row above becomes in a file `rows.jsonl`."""
