"""Messages from a ComfyUI server's websocket, kept in order so that a late reader misses none."""

import asyncio
import json
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import aiohttp

PREVIEW_IMAGE, TEXT, PREVIEW_IMAGE_WITH_METADATA = 1, 3, 4
CLIENT_FEATURES = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


@dataclass(kw_only=True, slots=True, frozen=True)
class Event:
    """One message from the server."""

    kind: str
    """ComfyUI's name for the message, such as "progress_state"; for binary messages, "preview" or "text"."""
    data: dict[str, Any] = field(default_factory=dict)
    """For "text": node_id and text. For "preview": node_id and more, if the server sends them."""
    image: bytes = b""
    """The picture of a "preview": a PNG or JPEG file."""
    prompt_id: str = ""
    """The prompt that the message belongs to; "" for messages about the server."""

    @property
    def ends_prompt(self) -> bool:
        """Whether this is the last message about its prompt."""
        return self.kind == "executing" and self.data.get("node") is None


class EventListener:
    """Listens in a separate thread, from its creation until the server ends the connection."""

    def __init__(self, address: str, client_id: str, timeout: float) -> None:
        """Connect; raises ConnectionError if the server does not answer within `timeout` seconds."""
        self._url = f"{address}/ws?clientId={client_id}"
        self._timeout = timeout
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._connected = self._ended = False
        self._thread = threading.Thread(target=self._run, name="comfyui events", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._ended)
        if not self._connected:
            raise ConnectionError(f"No websocket at {self._url}.")

    def follow(self, prompt_id: str, timeout: float) -> Iterator[Event]:
        """Messages about a prompt from the first to the last, as they come; ends early if the connection does.

        Raises:
            TimeoutError: the last message has not come after `timeout` seconds.
        """
        deadline = monotonic() + timeout
        for event in self._since_start(deadline):
            if event.prompt_id == prompt_id:
                yield event
                if event.ends_prompt:
                    return
            if monotonic() > deadline:
                raise TimeoutError(f"Prompt {prompt_id} has not ended after {timeout:.0f} s.")

    def join(self) -> None:
        """Wait until the thread has ended, which it does after the server."""
        self._thread.join()

    def _since_start(self, deadline: float) -> Iterator[Event]:
        position = 0
        while True:
            with self._changed:
                while len(self._events) == position and not self._ended:
                    if not self._changed.wait(deadline - monotonic()):
                        raise TimeoutError("Nothing more was heard from ComfyUI in the time given.")
                events = self._events[position:]
            if not events:
                return
            yield from events
            position += len(events)

    def _run(self) -> None:
        over = suppress(aiohttp.ClientError, TimeoutError, asyncio.TimeoutError, OSError)
        try:
            with over:  # `follow` and the constructor notice the end
                asyncio.run(self._listen())
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    async def _listen(self) -> None:
        async with aiohttp.ClientSession() as session:
            socket = await asyncio.wait_for(session.ws_connect(self._url, max_msg_size=0), self._timeout)
            await socket.send_json(CLIENT_FEATURES)
            with self._changed:
                self._connected = True
                self._changed.notify_all()
            running = ""
            async for message in socket:
                event = read_message(message.data, running)
                running = event.prompt_id or running
                with self._changed:
                    self._events.append(event)
                    self._changed.notify_all()


def read_message(message: str | bytes, running_prompt: str) -> Event:
    """The event of a websocket message; a binary message without a prompt id belongs to `running_prompt`."""
    if isinstance(message, str):
        content = json.loads(message)
        data = content.get("data") or {}
        return Event(kind=content["type"], data=data, prompt_id=data.get("prompt_id") or "")
    (number,), body = struct.unpack(">I", message[:4]), message[4:]
    if number == PREVIEW_IMAGE:
        return Event(kind="preview", image=body[4:], prompt_id=running_prompt)
    if number not in (TEXT, PREVIEW_IMAGE_WITH_METADATA):
        return Event(kind=f"binary {number}", prompt_id=running_prompt)
    (length,) = struct.unpack(">I", body[:4])
    head, rest = body[4 : 4 + length].decode(), body[4 + length :]
    if number == TEXT:
        return Event(kind="text", data={"node_id": head, "text": rest.decode()}, prompt_id=running_prompt)
    data = json.loads(head)
    return Event(kind="preview", data=data, image=rest, prompt_id=data.get("prompt_id") or running_prompt)
