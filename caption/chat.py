"""What is said to a vision-language model about one photo, and what it says back.

Every model back-end speaks this; knows no model, no prompt, and not what a caption is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

End = Literal["stop", "length", "refused"]
Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A photo and what has been said of it so far; the next word is the model's."""

    identity: str
    """Opaque key of whom the photo shows: where its replies are kept. Not sent."""
    image_jpeg: bytes
    system: str
    turns: tuple[str, ...]
    """User and model by turns; the first and the last are the user's."""
    structured: bool
    """The answer is to be JSON of `caption.answer.SCHEMA`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said."""

    text: str
    prompt_tokens: int
    """The model's own tokens, photo included; 0 when not told."""
    new_tokens: int
    end: End = "stop"
    """`length`: cut off at the limit; `refused`: the model or its keeper would not answer."""


@dataclass(frozen=True, slots=True)
class NoReply:
    """Nothing was said, however patiently it was asked."""

    reason: str
    detail: str = ""
    stops: bool = False
    """No other photo would fare better now: the run ends, and `detail` is its one line."""


class Chat(Protocol):
    """A model that talks about photos. Opened once per worker, used from one thread."""

    def ask(self, conversations: list[Conversation]) -> list[Reply | NoReply]:
        """One outcome a conversation, in order. May raise for the whole batch."""
        ...


def messages(conversation: Conversation, photo: Mapping[str, Any]) -> list[Message]:
    """The conversation as roles and contents; `photo` is the image part as the back-end wants it."""
    first, *rest = conversation.turns
    said: list[Message] = [{"role": "system", "content": conversation.system}] if conversation.system else []
    said.append({"role": "user", "content": [dict(photo), {"type": "text", "text": first}]})
    roles = ("assistant", "user")
    return said + [{"role": roles[n % 2], "content": text} for n, text in enumerate(rest)]


def openai_messages(conversation: Conversation) -> list[Message]:
    """The conversation as OpenAI-compatible servers, and vLLM's engine, take it."""
    return messages(conversation, {"type": "image_url", "image_url": {"url": data_url(conversation.image_jpeg)}})


def data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
