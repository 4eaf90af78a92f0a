"""Is a caption fit for training? The same rules for every back-end, and for the retry of those that can fail.

Knows nothing of photos: whether a caption is true is not decided here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from caption.captioned import Caption
from caption.tokens import TokenCounter, estimated_tokens
from caption.words import CLASS_WORDS, FACE_WORDS, FOREIGN_WORDS, NAME_PARTICLES, ORDINARY_NAMES

MAX_TOKENS = 77
"""CLIP's context, begin and end tokens included."""
_BEGIN_AND_END = 2
_TRIGGER = 1
"""`general` grows by the trigger."""

Reason = Literal[
    "not_json", "cut_off", "missing", "not_text",  # of an answer; the rest of a caption
    "class_word", "empty", "untidy", "not_english", "names_person", "face_in_background", "too_long",
]  # fmt: skip
LEAKS: tuple[Reason, ...] = ("names_person", "face_in_background")
"""What must not get out even once."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+)[\"'“‘(]*$")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    reason: Reason
    """To be counted."""
    text: str
    """A sentence, fit to be shown to a model that may try again."""


def faults(caption: Caption, names: Iterable[str] = (), count_tokens: TokenCounter = estimated_tokens) -> list[Fault]:
    """What is wrong with a caption; [] when nothing. `names`: of the person shown; the faults do not repeat them."""
    known = list(names)
    return [
        *_class_word_faults(caption),
        *(fault for part, text in parts(caption) for fault in _text_faults(part, text)),
        *(
            Fault("names_person", f"{part} names the person")
            for part, text in parts(caption)
            if any(is_named(n, text) for n in known)
        ),
        *_face_faults(caption.background),
        *_length_faults(caption, count_tokens),
    ]


def parts(caption: Caption) -> list[tuple[str, str]]:
    return [("general", caption.general), ("background", caption.background), ("body", caption.body)]


def _class_word_faults(caption: Caption) -> Iterator[Fault]:
    if caption.class_word not in CLASS_WORDS:
        yield Fault("class_word", f"class_word is not one of {', '.join(CLASS_WORDS)}")
        return
    found = list(re.finditer(rf"\b{caption.class_word}\b", caption.general, re.IGNORECASE))
    if len(found) != 1:
        yield Fault("class_word", f"general holds the word {caption.class_word} {len(found)} times, not once")
    elif caption.trigger_position != found[0].end():
        yield Fault(
            "class_word", f"trigger_position is {caption.trigger_position}, the class word ends at {found[0].end()}"
        )


def _text_faults(part: str, text: str) -> Iterator[Fault]:
    if not text.strip():
        if part != "background" or text:
            yield Fault("empty", f"{part} is empty")
        return
    if text != " ".join(text.split()) or not text.isprintable():
        yield Fault("untidy", f"{part} has line breaks, needless spaces or odd characters")
    letters = [c for c in text if c.isalpha()]
    words = {word.lower() for word in _WORD.findall(text)}
    foreign_script = any(not unicodedata.name(c, "").startswith("LATIN") for c in letters)
    if not letters or foreign_script or len(words & FOREIGN_WORDS) >= 2:
        yield Fault("not_english", f"{part} is not English")


def is_named(name: str, text: str) -> bool:
    """The whole name in any case, or one of its words: unless that is an English word and used as such."""
    wanted, plain = _plain(name), re.sub(r"['’]s\b", "", _plain(text))
    if " " in wanted and _contains(wanted.casefold(), plain.casefold()):
        return True
    return any(_word_is_named(word.casefold(), plain) for word in _WORD.findall(wanted))


def _word_is_named(word: str, text: str) -> bool:
    if len(word) < 2 or word in NAME_PARTICLES:
        return False
    is_english = word in ORDINARY_NAMES or len(word) == 2
    uses = (found for found in _WORD.finditer(text) if found[0].casefold() == word)
    return any(not is_english or _is_written_as_name(found, text) for found in uses)


def _is_written_as_name(word: re.Match[str], text: str) -> bool:
    """With a capital, and not because a sentence starts there."""
    return word[0][0].isupper() and not _SENTENCE_START.search(text[: word.start()])


def _contains(words: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _plain(text: str) -> str:
    """Without accents, so that "Beyoncé" is found in "Beyonce" and the other way round; spaces single."""
    decomposed = unicodedata.normalize("NFKD", text.replace("_", " "))
    return " ".join("".join(c for c in decomposed if not unicodedata.combining(c)).split())


def _face_faults(background: str) -> Iterator[Fault]:
    words = sorted({word.lower() for word in _WORD.findall(background)} & FACE_WORDS)
    if words:
        yield Fault("face_in_background", f"background describes a face: {', '.join(words)}")


def part_tokens(part: str, text: str, count_tokens: TokenCounter) -> int:
    """What a part takes of CLIP's context: its tokens, the two ends and, in `general`, the trigger."""
    return count_tokens(text) + _BEGIN_AND_END + (_TRIGGER if part == "general" else 0)


def _length_faults(caption: Caption, count_tokens: TokenCounter) -> Iterator[Fault]:
    for part, text in parts(caption):
        tokens = part_tokens(part, text, count_tokens)
        if tokens > MAX_TOKENS:
            yield Fault("too_long", f"{part} is too long: {tokens} tokens, at most {MAX_TOKENS}")
