"""What a person types as a prompt: where its class word stands, behind which an identity may enter.

Knows no tokenizer and no method.
"""

from __future__ import annotations

import re

from crawl.errors import InputError

CLASS_WORDS = ("woman", "man", "person", "girl", "boy", "lady", "gentleman", "child", "baby", "actor", "actress")
TRIGGER = "img"
"""PhotoMaker's: may stand right behind the class word; it reaches no text encoder."""


def parse_prompt(prompt: str, class_word: str | None = None) -> tuple[str, int]:
    """(text without trigger, offset just behind the class word; −1 when there is none).

    The class word stands before the trigger, or is `class_word`, or the first of `CLASS_WORDS`. Raises InputError for
    a trigger in a wrong place, and for a `class_word` that is not in the prompt.
    """
    triggers = list(re.finditer(rf"(?<!\w){TRIGGER}(?!\w)", prompt))
    if triggers:
        before, after = prompt[: triggers[0].start()].rstrip(), prompt[triggers[0].end() :]
        if len(triggers) > 1 or not re.search(r"\w$", before):
            raise InputError(
                f"prompt: {prompt!r}: {TRIGGER} stands once, right behind the class word (a man {TRIGGER})"
            )
        return before + after, len(before)
    words = CLASS_WORDS if class_word is None else (class_word,)
    found = re.search(rf"\b(?:{'|'.join(map(re.escape, words))})\b", prompt, re.IGNORECASE)
    if found is None and class_word is not None:
        raise InputError(f"prompt: {prompt!r}: the class word {class_word!r} is not in it")
    return prompt, found.end() if found else -1
