"""The client against a real HTTP server that fails in every way that endpoints do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest
from scripted_endpoint import (
    SILENCE,
    Reply,
    ScriptedEndpoint,
    message,
    refusal,
    scripted_endpoint,
    stream,
)

from agents.chat_answers import Answer
from agents.chat_client import ChatClient, ChatConfig, Usage, base_url, key_from_environment
from agents.chat_errors import EndpointError, UnansweredError, retry_after_s

KEY = "sk-very-secret"
USER = [{"role": "user", "content": "What is 17 + 25?"}]
TOOL = {"type": "function", "function": {"name": "calculate", "parameters": {"type": "object"}}}
GOOD = message("42")


@pytest.fixture
def server() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as running:
        yield running


MakeClient = Callable[..., ChatClient]


@pytest.fixture
def client(server: ScriptedEndpoint) -> Iterator[MakeClient]:
    made: list[ChatClient] = []

    def make(key: str = KEY, url: str = "", **rest: Any) -> ChatClient:
        settings = {"retries": 2, "backoff_s": 0.001, "request_s": 30.0, **rest}
        made.append(ChatClient(ChatConfig(url or server.url, "tiny", **settings), key))
        return made[-1]

    yield make
    for one in made:
        one.close()


def asked(client: ChatClient, limit_s: float = 60.0) -> Answer:
    return client.submit(USER, [TOOL], limit_s).result(60)


def answered_before(server: ScriptedEndpoint, client: ChatClient) -> ChatClient:
    """Let a client have one answer, so that it knows the endpoint."""
    server.script.append(GOOD)
    asked(client)
    return client


# --- what is asked ----------------------------------------------------------------------------


def test_a_request_holds_the_conversation_the_tools_and_the_key(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.script = [GOOD]
    answer = asked(client(temperature=0.0, max_turn_tokens=64))
    assert answer.content == "42"
    assert server.requests == [
        {
            "model": "tiny",
            "messages": USER,
            "tools": [TOOL],
            "temperature": 0.0,
            "max_tokens": 64,
            "stream": False,
        }
    ]
    assert server.keys == [f"Bearer {KEY}"]
    assert server.paths == ["/v1/chat/completions"]


def test_what_was_not_set_is_left_to_the_endpoint(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.script = [GOOD]
    client(key="").submit(USER, [], 60).result(60)
    assert server.requests == [{"model": "tiny", "messages": USER, "stream": False}]
    assert server.keys == [None]


def test_half_a_surrogate_pair_is_sent_as_it_came(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.script = [message("\ud83d")]
    said = asked(client()).content
    server.script = [GOOD]
    client().submit([{"role": "assistant", "content": said}], [], 60).result(60)
    assert server.requests[-1]["messages"][0]["content"] == "\ud83d"


@pytest.mark.parametrize("end", ["", "/", "/chat/completions", "/chat/completions/"])
def test_the_url_may_end_in_what_the_client_adds(
    server: ScriptedEndpoint, client: MakeClient, end: str
) -> None:
    server.script = [GOOD]
    assert asked(client(url=server.url + end.rstrip("/"))).content == "42"
    assert server.paths == ["/v1/chat/completions"]


def test_a_query_of_the_url_stays(server: ScriptedEndpoint, client: MakeClient) -> None:
    server.script = [GOOD]
    asked(client(url=server.url + "?api-version=1"))
    assert server.paths == ["/v1/chat/completions?api-version=1"]


@pytest.mark.parametrize("url", ["localhost:8000/v1", "", "http://", "ftp://a/v1", "http://a:b/v1"])
def test_what_is_no_url_says_how_one_is_written(url: str) -> None:
    with pytest.raises(EndpointError, match="is no URL"):
        base_url(url)


def test_a_key_in_the_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(EndpointError, match="OPENAI_API_KEY") as caught:
        base_url(f"https://me:{KEY}@host/v1")
    assert KEY not in str(caught.value)


def test_a_key_that_cannot_stand_in_a_header_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert key_from_environment() == KEY
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX: y")
    with pytest.raises(EndpointError) as caught:
        key_from_environment()
    assert KEY not in str(caught.value)


# --- what is tried again ----------------------------------------------------------------------


def past() -> str:
    return format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize(
    "fault",
    [
        refusal(429, Retry_After="0"),
        refusal(429, Retry_After=past()),
        refusal(429, Retry_After="soon"),
        refusal(408),
        refusal(500),
        refusal(503, {"nested": 1}),
        Reply(b"<html>Bad gateway</html>", 502, "text/html"),
        Reply(b'{"choices": [{"mess', missing=1000),
        stream({"content": "4"}, end=""),
        Reply(b"<html>maintenance</html>", kind="text/html"),
        Reply(b'{"choices": [{"message": ', kind="application/json"),
    ],
    ids=lambda reply: f"{reply.status}-{reply.body[:12].decode()}",
)
def test_a_passing_fault_is_tried_again(
    server: ScriptedEndpoint, client: MakeClient, fault: Reply
) -> None:
    known = answered_before(server, client())
    server.script = [fault, fault, GOOD]
    assert asked(known).content == "42"
    assert known.usage == Usage(2, 2, 200, 20)


def test_half_a_stream_is_tried_again_even_as_the_first_answer(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.script = [stream({"content": "4"}, end=""), stream({"content": "4"}, {"content": "2"})]
    assert asked(client()).content == "42"


def test_a_stream_that_stays_open_behind_its_end_is_not_waited_for(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    whole = stream({"content": "42"})
    server.script = [Reply(whole.body, kind=whole.kind, missing=1000, held=True)]
    assert asked(client()).content == "42"


def test_a_silent_endpoint_is_asked_again_after_the_deadline_of_a_request(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.script = [SILENCE, GOOD]
    assert asked(client(request_s=0.3)).content == "42"


def test_a_silent_endpoint_ends_with_the_deadline_of_the_episode(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.script = [SILENCE]
    with pytest.raises(UnansweredError, match=r"no answer within the 0\.2 s left to the episode"):
        asked(client(), limit_s=0.2)


def test_an_answer_that_stops_in_the_middle_is_not_waited_for_longer(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    known = answered_before(server, client(request_s=0.3, retries=0))
    server.script = [Reply(b'{"choices": ', missing=1000, held=True)]
    with pytest.raises(UnansweredError, match=r"no answer within 0.3 s.*fewer episodes"):
        asked(known)


def test_retries_end_and_lose_one_request(server: ScriptedEndpoint, client: MakeClient) -> None:
    known = answered_before(server, client())
    server.script = [refusal(500, "out of memory")] * 3
    with pytest.raises(UnansweredError, match=r"500 out of memory \(after 2 retries\)"):
        asked(known)
    assert server.script == []
    server.script = [GOOD]
    assert asked(known).content == "42"


def test_an_endpoint_that_never_answered_cannot_be_used(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.script = [refusal(500)] * 3
    with pytest.raises(EndpointError, match="never answered, so see the server's log") as caught:
        asked(client())
    assert not isinstance(caught.value, UnansweredError)


def test_a_longer_wait_than_the_episode_has_is_not_begun_and_holds_back_all_requests(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    known = answered_before(server, client())
    server.script = [refusal(429, Retry_After="3600"), GOOD]
    with pytest.raises(UnansweredError, match="the next try would be in 3600 s, too late"):
        asked(known)
    with pytest.raises(UnansweredError, match="no answer within"):
        asked(known, limit_s=0.1)
    assert len(server.requests) == 2


def test_the_seconds_of_retry_after_are_read() -> None:
    def header(value: str) -> float | None:
        return retry_after_s(httpx2.Response(429, headers={"Retry-After": value}))

    assert header("1.5") == 1.5
    assert header("inf") is None
    assert header("") is None
    naive = (datetime.now(UTC) + timedelta(hours=1)).strftime("%a, %d %b %Y %H:%M:%S -0000")
    assert header(naive) == pytest.approx(3600, abs=60)


def test_requests_are_spaced_as_the_rate_limit_says(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.respond = lambda _: GOOD
    slow = client(requests_per_minute=300)
    pending = [slow.submit(USER, [], 60) for _ in range(3)]
    answers = [future.result(60) for future in pending]
    # A request may be late, but none may be early: the last waited for two gaps of 0.2 s.
    assert answers[-1].seconds >= 0.39


# --- what is not ------------------------------------------------------------------------------


def failure(server: ScriptedEndpoint, client: ChatClient, reply: Reply) -> str:
    server.script = [reply]
    with pytest.raises(EndpointError) as caught:
        asked(client)
    assert not isinstance(caught.value, UnansweredError)
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_refused_key_is_not_repeated_even_if_the_server_does(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    told = failure(server, client(), refusal(401, f"Incorrect API key provided: {KEY}"))
    assert "the key in OPENAI_API_KEY is refused (401 Incorrect API key provided: ***)" in told


def test_a_missing_key_is_asked_for(server: ScriptedEndpoint, client: MakeClient) -> None:
    assert "set OPENAI_API_KEY" in failure(server, client(key=""), refusal(401))


def test_an_unknown_model_is_told_with_those_that_are_served(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    server.models = Reply(json.dumps({"data": [{"id": "tiny-1"}, {"id": "large"}]}).encode())
    told = failure(server, client(), refusal(404, "The model `tiny` does not exist"))
    assert "no model 'tiny'" in told
    assert 'did you mean "tiny-1"?' in told
    assert "it serves: tiny-1, large" in told


@pytest.mark.parametrize(
    "models", [Reply(status=404), Reply(b"[]"), Reply(b'{"data": [{"id": "tiny"}]}')]
)
def test_a_wrong_path_says_how_urls_end(
    server: ScriptedEndpoint, client: MakeClient, models: Reply
) -> None:
    server.models = models
    told = failure(server, client(), Reply(b'{"detail": "Not Found"}', 404))
    assert "/chat/completions is not there (404 Not Found)" in told
    assert "usually ends in /v1" in told


def test_a_web_page_is_no_endpoint(server: ScriptedEndpoint, client: MakeClient) -> None:
    told = failure(server, client(), Reply(b"<html>Welcome!</html>", kind="text/html"))
    assert "no OpenAI-compatible endpoint: not a chat completion: '<html>Welcome!</html>'" in told


def test_an_endpoint_that_moved_says_where_to(server: ScriptedEndpoint, client: MakeClient) -> None:
    place = {"Location": "https://elsewhere/v1/chat/completions"}
    told = failure(server, client(), Reply(status=308, headers=place))
    assert "moved to https://elsewhere/v1: give that URL" in told


def test_a_quota_that_is_used_up_does_not_come_back(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    error = {"error": {"message": "You exceeded it", "code": "insufficient_quota"}}
    told = failure(server, client(), Reply(json.dumps(error).encode(), 429))
    assert "the request is refused (429 You exceeded it)" in told


def test_a_refused_first_request_is_the_command_s_fault(
    server: ScriptedEndpoint, client: MakeClient
) -> None:
    told = failure(server, client(), refusal(400, "no such parameter"))
    assert "refused (400 no such parameter): correct the command" in told


def test_a_later_refusal_loses_one_request(server: ScriptedEndpoint, client: MakeClient) -> None:
    known = answered_before(server, client())
    server.script = [refusal(400, "maximum context length is 512 tokens")]
    with pytest.raises(UnansweredError, match="400 maximum context length"):
        asked(known)


def test_where_nothing_listens_nothing_is_waited_for(client: MakeClient) -> None:
    with scripted_endpoint() as gone:
        url = gone.url
    with pytest.raises(EndpointError, match=r"nothing answers \(.*\): start the server"):
        asked(client(url=url, backoff_s=1000))


def test_an_endpoint_that_goes_away_is_waited_for(client: MakeClient) -> None:
    with scripted_endpoint() as going:
        known = answered_before(going, client(url=going.url))
    with pytest.raises(UnansweredError, match=r"cannot be reached .* \(after 2 retries\)"):
        asked(known)
    assert known.usage.retries == 2
