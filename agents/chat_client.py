"""A client of `/chat/completions` that waits, tries again, and gives up with a clear message.

Tried again, with exponential backoff and jitter: 408, 409, 425, 429 and 5xx, connections that
break, answers that are not whole, and silence. A `Retry-After` holds back every request of the
client. Where nothing listens and nothing ever answered, nothing is waited for.

The key never stands in a message: what a server says is quoted without it.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from agents.chat_answers import Answer, BadAnswerError, read_body, read_stream
from agents.chat_errors import (
    EndpointError,
    NotNowError,
    UnansweredError,
    cause,
    is_not_now,
    quoted,
    retry_after_s,
)
from agents.pace import Pace
from envs.event_loop import event_loop
from rewards.errors import did_you_mean

KEY_VARIABLE = "OPENAI_API_KEY"
LONGEST_WAIT_S = 60.0
CLOSE_S = 5.0

_PATH = "/chat/completions"


@dataclass(frozen=True)
class ChatConfig:
    """What is asked, and how patiently.

    Attributes:
        url: The endpoint, up to and including `/v1`.
        model: What it calls the model.
        temperature: Sampling temperature; None leaves it to the endpoint.
        max_turn_tokens: Most tokens of one turn; 0 leaves it to the endpoint.
        retries: How often one request is tried again.
        backoff_s: Seconds before the first retry; each further one waits up to twice as long.
        request_s: Most seconds for one request.
        requests_per_minute: Most requests a minute, evenly spaced; 0 for no limit.
    """

    url: str
    model: str
    temperature: float | None = None
    max_turn_tokens: int = 0
    retries: int = 5
    backoff_s: float = 1.0
    request_s: float = 300.0
    requests_per_minute: float = 0.0


@dataclass(frozen=True)
class Usage:
    """What a client has asked for so far."""

    answers: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def key_from_environment() -> str:
    """Return the key of the endpoint, "" where there is none.

    Raises:
        EndpointError: It cannot stand in a header.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(f"{KEY_VARIABLE} holds characters that no key has; set it again")
    return key


class ChatClient:
    """Asks one model behind one endpoint; several requests may be on their way at once.

    Args:
        config: What is asked, and how patiently.
        key: The key of the endpoint; no header is sent without one.

    Raises:
        EndpointError: The URL is none.
    """

    def __init__(self, config: ChatConfig, key: str = "") -> None:
        self.config = config
        self.usage = Usage()
        self._base = base_url(config.url)
        self._key = key
        self._pace = Pace(config.requests_per_minute)
        self._http = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=config.request_s,
            limits=httpx2.Limits(max_connections=None),
        )

    def submit(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        limit_s: float,
    ) -> Future[Answer]:
        """Start to ask for the model's next turn.

        Args:
            messages: The conversation in OpenAI's form.
            tools: OpenAI function schemas.
            limit_s: Most seconds in all, retries included.

        Returns:
            The answer to come. It raises `EndpointError` or, where only this request is lost,
            `UnansweredError`, and never takes longer than `limit_s`.
        """
        body: dict[str, Any] = {"model": self.config.model, "messages": list(messages)}
        if tools:  # an empty list is refused by some
            body["tools"] = list(tools)
        if self.config.temperature is not None:
            body["temperature"] = self.config.temperature
        if self.config.max_turn_tokens:
            body["max_tokens"] = self.config.max_turn_tokens
        # As ASCII: what a model said may hold half a surrogate pair, which no other form can.
        content = json.dumps({**body, "stream": False}).encode()
        return event_loop().submit(self._ask(content, limit_s))

    def close(self) -> None:
        """Close the connections."""
        event_loop().run(self._http.aclose(), CLOSE_S)

    # --- one turn -----------------------------------------------------------------------------

    async def _ask(self, content: bytes, limit_s: float) -> Answer:
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            async with asyncio.timeout(limit_s):
                answer = await self._ask_until_answered(content, started + limit_s)
        except TimeoutError as error:
            told = self._told(f"no answer within the {limit_s:.3g} s left to the episode")
            raise UnansweredError(told) from error
        self.usage = replace(
            self.usage,
            answers=self.usage.answers + 1,
            prompt_tokens=self.usage.prompt_tokens + answer.prompt_tokens,
            completion_tokens=self.usage.completion_tokens + answer.completion_tokens,
        )
        return replace(answer, seconds=clock() - started)

    async def _ask_until_answered(self, content: bytes, deadline: float) -> Answer:
        attempt = 0
        while True:
            await self._pace.turn()
            try:
                return await self._ask_once(content)
            except NotNowError as error:
                if attempt == self.config.retries:
                    raise self._given_up(f"{error} (after {attempt} retries)") from error
                wait = self._wait_s(attempt, error.after_s)
                if asyncio.get_running_loop().time() + wait > deadline:
                    told = f"{error}; the next try would be in {wait:.0f} s, too late"
                    raise self._given_up(told) from error
            attempt += 1
            self.usage = replace(self.usage, retries=self.usage.retries + 1)
            await asyncio.sleep(wait)

    def _given_up(self, problem: str) -> EndpointError:
        if self.usage.answers:
            return UnansweredError(self._told(problem))
        return EndpointError(self._told(f"{problem}; it never answered, so see the server's log"))

    def _wait_s(self, attempt: int, after_s: float | None) -> float:
        jitter = random.uniform(0.5, 1.0)
        if after_s is not None:
            self._pace.hold(after_s)
            return after_s + self.config.backoff_s * jitter
        return float(min(LONGEST_WAIT_S, self.config.backoff_s * 2**attempt)) * jitter

    # --- one request --------------------------------------------------------------------------

    async def _ask_once(self, content: bytes) -> Answer:
        request = self._http.build_request(
            "POST",
            self._base.copy_with(path=self._base.path + _PATH),
            content=content,
            headers={"Content-Type": "application/json"},
        )
        try:
            async with asyncio.timeout(self.config.request_s):
                response = await self._http.send(request, stream=True)
                try:
                    return await self._read(response)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException) as error:
            told = f"no answer within {self.config.request_s:g} s"
            raise NotNowError(f"{told}: run fewer episodes at once, or allow more time") from error
        except httpx2.ConnectError as error:
            if self.usage.answers:
                raise NotNowError(f"it cannot be reached ({cause(error)})") from error
            told = f"nothing answers ({cause(error)}): start the server, or correct the URL"
            raise EndpointError(self._told(told)) from error
        except httpx2.RequestError as error:
            raise NotNowError(f"the connection broke ({cause(error)})") from error

    async def _read(self, response: httpx2.Response) -> Answer:
        if response.status_code != httpx2.codes.OK:
            await response.aread()
            raise await self._refusal(response)
        streamed = "text/event-stream" in response.headers.get("content-type", "")
        try:
            if streamed:
                return await read_stream(response.aiter_lines())
            await response.aread()
            return read_body(response.text)
        except BadAnswerError as error:
            # A stream was at least begun in the right form; another answer may be a web page.
            if self.usage.answers or streamed:
                raise NotNowError(str(error)) from error
            told = f"no OpenAI-compatible endpoint: {error}; the URL usually ends in /v1"
            raise EndpointError(self._told(told)) from error

    async def _refusal(self, response: httpx2.Response) -> Exception:
        """Return what a status other than 200 means."""
        status, said = response.status_code, quoted(response)
        if is_not_now(response):
            return NotNowError(said, retry_after_s(response))
        if status in (401, 403):
            todo = f"the key in {KEY_VARIABLE} is refused" if self._key else f"set {KEY_VARIABLE}"
            return EndpointError(self._told(f"{todo} ({said})"))
        if status == 404:
            return EndpointError(self._told(await self._not_found(said)))
        if response.has_redirect_location:
            place = response.headers["location"].removesuffix(_PATH)
            return EndpointError(self._told(f"moved to {place}: give that URL"))
        if self.usage.answers:
            return UnansweredError(self._told(f"the request is refused ({said})"))
        return EndpointError(self._told(f"the request is refused ({said}): correct the command"))

    async def _not_found(self, said: str) -> str:
        model, served = self.config.model, await self._served_models()
        if served and model not in served:
            hint = did_you_mean(model, served)
            return f"no model {model!r}{hint}; it serves: {', '.join(served[:10])}"
        return (
            f"{_PATH} is not there ({said}): the URL usually ends in /v1, and the model must be "
            f"one that it serves, not {model!r}"
        )

    async def _served_models(self) -> list[str]:
        """Return the models that the endpoint lists; none if it does not."""
        try:
            url = self._base.copy_with(path=self._base.path + "/models")
            models = (await self._http.get(url)).json()["data"]
            return [str(model["id"]) for model in models]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError):
            return []

    def _told(self, problem: str) -> str:
        base = self._base
        told = f"the endpoint {base.scheme}://{base.netloc.decode()}{base.path}: {problem}"
        return told.replace(self._key, "***") if self._key else told


def base_url(text: str) -> httpx2.URL:
    """Return the URL of an endpoint, to which the paths of the API are added.

    Raises:
        EndpointError: It is none, or holds a key.
    """
    try:
        url = httpx2.URL(text.strip())
    except httpx2.InvalidURL as error:
        raise EndpointError(f"{text!r} is no URL: {error}") from error
    if url.userinfo:
        raise EndpointError(f"a key does not belong in the URL: set {KEY_VARIABLE}")
    if url.scheme not in ("http", "https") or not url.host:
        raise EndpointError(f"{text!r} is no URL of an endpoint; write http://localhost:8000/v1")
    return url.copy_with(path=url.path.rstrip("/").removesuffix(_PATH))
