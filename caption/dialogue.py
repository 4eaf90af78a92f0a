"""One photo's way to a caption: the prompt's turns, then the answer, asked for again with its errors while it has any.

A state machine over `Conversation` and `Reply`: knows no model, no batch, no cache.
"""

from __future__ import annotations

from dataclasses import dataclass

from caption.answer import read_answer
from caption.captioned import Caption
from caption.chat import Conversation, NoReply, Reply
from caption.check import LEAKS, Fault, faults, is_named, part_tokens, parts
from caption.prompt import Prompt
from caption.tokens import TokenCounter
from crawl.photo import Rejection
from filter.portrait import Portrait

STAGE = "caption"
_MOST_REPEATED = 2000
"""Characters of an invalid answer that are shown to the model again."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What it took to describe one photo. A measured caption takes no answers."""

    replies: int
    """Of the model, over all turns; known ones count too."""
    answers: int
    """Structured ones among them that were read."""
    faults: tuple[str, ...]
    """The reason of everything that was wrong with answers sent back, in order."""
    leaks: tuple[str, ...]
    """Of these, the kinds of leak in any answer: names_person, face_in_background."""
    prompt_tokens: int
    new_tokens: int
    """The model's tokens in all replies."""
    general_tokens: int = 0
    background_tokens: int = 0
    body_tokens: int = 0
    """CLIP's tokens of each part, ends and trigger included; 0 without a caption."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How dialogues are held."""

    prompt: Prompt
    made_by: str
    max_attempts: int
    count_tokens: TokenCounter


class Dialogue:
    """Ask `conversation`, tell what came with `hear`, until there is an `outcome`."""

    def __init__(self, portrait: Portrait, name: str | None, rules: Rules) -> None:
        self._portrait, self._rules = portrait, rules
        self._names = [name] if name else []
        self._turns = [rules.prompt.asks[0]]
        self._asked = 1
        self._faults: list[list[Fault]] = []
        self._replies, self._tokens = 0, [0, 0]
        self.outcome: Caption | Rejection | None = None

    @property
    def conversation(self) -> Conversation:
        return Conversation(
            self._portrait.identity,
            self._portrait.image_jpeg,
            self._rules.prompt.system,
            tuple(self._turns),
            structured=self._asked >= len(self._rules.prompt.asks),
        )

    def hear(self, reply: Reply | NoReply | Rejection) -> None:
        assert self.outcome is None
        if isinstance(reply, Rejection):
            self.outcome = reply
        elif isinstance(reply, NoReply):
            named = any(is_named(name, reply.detail) for name in self._names)
            self.outcome = Rejection(STAGE, reply.reason, detail=None if named else reply.detail or None)
        else:
            self._tokens = [self._tokens[0] + reply.prompt_tokens, self._tokens[1] + reply.new_tokens]
            self._replies += 1
            self._listen(reply)

    def effort(self) -> Effort:
        every = tuple(fault.reason for found in self._faults for fault in found)
        caption = self.outcome if isinstance(self.outcome, Caption) else None
        return Effort(
            replies=self._replies,
            answers=len(self._faults) + (caption is not None),
            faults=every,
            leaks=tuple(kind for kind in LEAKS if kind in every),
            prompt_tokens=self._tokens[0],
            new_tokens=self._tokens[1],
            **(lengths(caption, self._rules.count_tokens) if caption else {}),
        )

    def _listen(self, reply: Reply) -> None:
        if reply.end == "refused":
            self.outcome = Rejection(STAGE, "refused")  # its words may name the person
        elif self._asked < len(self._rules.prompt.asks):
            self._say(reply.text, self._rules.prompt.asks[self._asked])
            self._asked += 1
        else:
            self._judge(reply)

    def _judge(self, reply: Reply) -> None:
        answer = read_answer(reply.text, self._rules.made_by)
        if isinstance(answer, Caption):
            found = faults(answer, self._names, self._rules.count_tokens)
        else:
            found = [_CUT_OFF] if reply.end == "length" else answer
        if not found:
            assert isinstance(answer, Caption)
            self.outcome = answer
            return
        self._faults.append(found)
        if len(self._faults) >= self._rules.max_attempts:
            told = "; ".join(fault.text for fault in found)
            self.outcome = Rejection(STAGE, "invalid_caption", float(len(found)), 0.0, told)
        else:
            self._say(reply.text[:_MOST_REPEATED], self._rules.prompt.again_with([fault.text for fault in found]))

    def _say(self, heard: str, ask: str) -> None:
        self._turns += [heard, ask]


def lengths(caption: Caption, count_tokens: TokenCounter) -> dict[str, int]:
    """The three `…_tokens` of an Effort."""
    return {f"{part}_tokens": part_tokens(part, text, count_tokens) for part, text in parts(caption)}


_CUT_OFF = Fault("cut_off", "the answer is too long and was cut off before the JSON object ended")
