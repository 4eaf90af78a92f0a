"""Captions by talking to a model, many photos at a time, so that the model never waits.

Batches stay full: each asks one question of every photo in it, be it the first, the second turn or a repetition. Two
are in hand: while the model has one, the replies of the other are kept, read, checked and handed on. Knows no model;
what is said is decided in `caption.dialogue`.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

from caption.captioner import Answer, Sitter
from caption.dialogue import Dialogue, Rules
from caption.replies import KnownFirst, Told
from crawl.errors import Paused

_IN_HAND = 2
InHand = deque[tuple[list[Dialogue], Callable[[], list[Told]]]]
"""(who is asked, what waits for their replies), oldest first."""


class AskingCaptioner:
    """See `Captioner`."""

    def __init__(self, asking: KnownFirst, rules: Rules, batch_size: int) -> None:
        self._asking, self._rules, self._batch_size = asking, rules, batch_size

    def captions(self, sitters: Iterable[Sitter]) -> Iterator[Answer]:
        """Raises Paused when there is no use in asking on; replies to everything asked by then are kept."""
        in_hand: InHand = deque()
        with ThreadPoolExecutor(1, "model") as model:
            try:
                yield from self._answers(iter(sitters), in_hand, model)
            except (Paused, KeyboardInterrupt):
                for _, replies in in_hand:
                    with contextlib.suppress(Paused):
                        replies()
                raise

    def _answers(self, sitters: Iterator[Sitter], in_hand: InHand, model: Executor) -> Iterator[Answer]:
        order: deque[tuple[str, Dialogue]] = deque()
        again: deque[Dialogue] = deque()
        while True:
            while len(in_hand) < _IN_HAND and (batch := self._batch(again, order, sitters)):
                in_hand.append((batch, self._asking.begin([dialogue.conversation for dialogue in batch], model)))
            if not in_hand:
                return
            batch, replies = in_hand[0]
            for dialogue, reply in zip(batch, replies(), strict=True):
                dialogue.hear(reply)
            in_hand.popleft()
            again += [dialogue for dialogue in batch if dialogue.outcome is None]
            yield from _finished(order)

    def _batch(
        self, again: deque[Dialogue], order: deque[tuple[str, Dialogue]], sitters: Iterator[Sitter]
    ) -> list[Dialogue]:
        """Those that have more to ask, and new ones for the room that is left."""
        batch = [again.popleft() for _ in range(min(len(again), self._batch_size))]
        for sitter in itertools.islice(sitters, self._batch_size - len(batch)):
            batch.append(Dialogue(sitter.portrait, sitter.name, self._rules))
            order.append((sitter.portrait.key, batch[-1]))
        return batch


def _finished(order: deque[tuple[str, Dialogue]]) -> Iterator[Answer]:
    """As far as none before is still being asked: never many wait."""
    while order and (outcome := order[0][1].outcome) is not None:
        key, dialogue = order.popleft()
        yield Answer(key, outcome, dialogue.effort())
