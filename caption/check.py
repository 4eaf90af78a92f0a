"""Is a caption fit for training? The same rules for every back-end, and for the retry of those that can fail.

Knows nothing of photos: whether a caption is true is not decided here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from caption.captioned import Caption
from caption.tokens import TokenCounter, estimated_tokens
from caption.words import FACE_WORDS, FOREIGN_WORDS, NAME_PARTICLES, ORDINARY_NAMES

MAX_TOKENS = 77
"""CLIP's context, begin and end tokens included."""
_BEGIN_AND_END = 2
_TRIGGER = 1
"""`general` grows by the trigger."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]\s+)[\"'“‘(]*$")


def faults(caption: Caption, names: Iterable[str] = (), count_tokens: TokenCounter = estimated_tokens) -> list[str]:
    """What is wrong with a caption, a sentence each, fit to be shown to a model that may try again; [] when nothing.

    `names`: names of the person shown. They are not repeated in the answer.
    """
    known = list(names)
    return [
        *_class_word_faults(caption),
        *(fault for part, text in _parts(caption) for fault in _text_faults(part, text)),
        *(f"{part} names the person" for part, text in _parts(caption) if any(_is_named(n, text) for n in known)),
        *_face_faults(caption.background),
        *_length_faults(caption, count_tokens),
    ]


def _parts(caption: Caption) -> list[tuple[str, str]]:
    return [("general", caption.general), ("background", caption.background), ("body", caption.body)]


def _class_word_faults(caption: Caption) -> Iterator[str]:
    if not re.fullmatch(r"[a-z]+", caption.class_word):
        yield "class_word is not one lower-case word"
        return
    found = list(re.finditer(rf"\b{caption.class_word}\b", caption.general, re.IGNORECASE))
    if len(found) != 1:
        yield f"general holds the word {caption.class_word} {len(found)} times, not once"
    elif caption.trigger_position != found[0].end():
        yield f"trigger_position is {caption.trigger_position}, the class word ends at {found[0].end()}"


def _text_faults(part: str, text: str) -> Iterator[str]:
    if not text.strip():
        if part != "background" or text:
            yield f"{part} is empty"
        return
    if text != " ".join(text.split()):
        yield f"{part} has line breaks or needless spaces"
    letters = [c for c in text if c.isalpha()]
    words = {word.lower() for word in _WORD.findall(text)}
    foreign_script = any(not unicodedata.name(c, "").startswith("LATIN") for c in letters)
    if not letters or foreign_script or len(words & FOREIGN_WORDS) >= 2:
        yield f"{part} is not English"


def _is_named(name: str, text: str) -> bool:
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


def _face_faults(background: str) -> Iterator[str]:
    words = sorted({word.lower() for word in _WORD.findall(background)} & FACE_WORDS)
    if words:
        yield f"background describes the face: {', '.join(words)}"


def _length_faults(caption: Caption, count_tokens: TokenCounter) -> Iterator[str]:
    for part, text in _parts(caption):
        tokens = count_tokens(text) + _BEGIN_AND_END + (_TRIGGER if part == "general" else 0)
        if tokens > MAX_TOKENS:
            yield f"{part} is too long: {tokens} tokens, at most {MAX_TOKENS}"
