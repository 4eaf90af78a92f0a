"""Captions by talking to a model, many photos at a time, in batches that stay full.

Each round asks one question of every photo in hand, whether it is its first, its second turn or a repetition; photos
that are done make room for new ones. Knows no model; what is said is decided in `caption.dialogue`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from caption.captioner import Answer, Sitter, each_or_all
from caption.chat import Chat
from caption.dialogue import Dialogue, Rules


class AskingCaptioner:
    """See `Captioner`."""

    def __init__(self, chat: Chat, rules: Rules, batch_size: int) -> None:
        self._chat, self._rules, self._batch_size = chat, rules, batch_size

    def captions(self, sitters: Iterable[Sitter]) -> Iterator[Answer]:
        """Raises Paused when the back-end says that there is no use in asking on."""
        coming = iter(sitters)
        waiting: deque[tuple[str, Dialogue]] = deque()
        while True:
            self._fill(waiting, coming)
            open_ones = [dialogue for _, dialogue in waiting if dialogue.outcome is None]
            if not open_ones:
                return
            told = each_or_all(self._chat.ask, [dialogue.conversation for dialogue in open_ones])
            for dialogue, reply in zip(open_ones, told, strict=True):
                dialogue.hear(reply)
            yield from _finished(waiting)

    def _fill(self, waiting: deque[tuple[str, Dialogue]], coming: Iterator[Sitter]) -> None:
        """Photos that are done but wait for one before them take no room; there are never many of them."""
        room = self._batch_size - sum(dialogue.outcome is None for _, dialogue in waiting)
        for _ in range(room):
            sitter = next(coming, None)
            if sitter is None:
                return
            waiting.append((sitter.portrait.key, Dialogue(sitter.portrait, sitter.name, self._rules)))


def _finished(waiting: deque[tuple[str, Dialogue]]) -> Iterator[Answer]:
    while waiting and (outcome := waiting[0][1].outcome) is not None:
        key, dialogue = waiting.popleft()
        yield Answer(key, outcome, dialogue.effort())
