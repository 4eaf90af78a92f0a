"""Figures are what the tables say."""

import pytest

from caption.captioned import Caption
from caption.config import CaptionRun
from caption.dialogue import Effort
from caption.figures import BINS, caption_figures, figure_lines
from caption.models import speaker
from caption.replies import KnownReply, Replies
from crawl.output import Output
from crawl.photo import Rejection
from crawl.tables import Entry, Tables

CAPTION = Caption("a photo of a man", "", "seated", "man", 16, "test")


@pytest.fixture
def run(tmp_path):
    endpoint = {"url": "http://127.0.0.1/v1"}
    caption = {"backend": "endpoint", "model": "m", "endpoint": endpoint}
    return CaptionRun.model_validate(
        {"output": str(tmp_path), "crawl": {"root": "."}, "shards": {"buckets": 2}, "caption": caption}
    )


@pytest.fixture
def figures(run):
    tables = Tables(Output(run.output))
    good = Effort(2, 1, (), (), 900, 60, general_tokens=19, background_tokens=2, body_tokens=77)
    again = Effort(4, 3, ("names_person", "too_long", "names_person"), ("names_person",), 1800, 120, 20, 9, 10)
    lost = Effort(3, 3, ("not_json",) * 3, (), 1000, 100)
    rows = [[("a", CAPTION, good), ("b", CAPTION, again)], [("c", CAPTION, good), ("d", None, lost)]]
    for bucket, of_bucket in enumerate(rows):
        why = Rejection("caption", "invalid_caption")
        entries = [Entry(key, caption, None if caption else why) for key, caption, _ in of_bucket]
        tables.write("caption", bucket, Caption, entries, "f")
        tables.write("efforts", bucket, Effort, [Entry(key, effort) for key, _, effort in of_bucket], "f")
    said = speaker(run.caption).name
    rows = [
        KnownReply(str(n), "1" * 16, "x", said if n else "another", "{}", 1, "t", 100, 50, "stop", 0.5)
        for n in range(5)
    ]
    Replies(Output(run.output), 0, 2).add(rows)
    return caption_figures(run, Output(run.output))


def test_everything_is_counted(figures):
    assert (figures.portraits, figures.captions, figures.rejected) == (4, 3, {"invalid_caption": 1})
    assert (figures.asked, figures.answers, figures.new_tokens) == (11, 8, 340)
    assert figures.sent_back == {"not_json": 3, "names_person": 2, "too_long": 1}
    assert figures.leaks == {"names_person": 1}


def test_lengths_are_of_captions_only(figures):
    assert BINS == ("0–9", "10–19", "20–29", "30–39", "40–49", "50–59", "60–69", "70–77")
    assert figures.lengths["general"] == (0, 2, 1, 0, 0, 0, 0, 0)
    assert figures.lengths["background"] == (3, 0, 0, 0, 0, 0, 0, 0)
    assert figures.lengths["body"] == (0, 1, 0, 0, 0, 0, 0, 2)


def test_speed_is_that_of_this_model(figures):
    assert (figures.replies, figures.reply_tokens, figures.seconds) == (4, 200, 2.0)
    assert "4 replies so far, 0.73 portraits/s and 100 tokens/s in each worker" in "\n".join(figure_lines(figures))


def test_lines_say_the_shares(figures):
    text = "\n".join(figure_lines(figures))
    assert "Answers: 8 for 4 portraits; sent back for 3 not_json, 2 names_person, 1 too_long" in text
    assert "leaked (and was sent back): 25.0% names_person" in text


def test_measured_captions_have_no_lines(run, tmp_path):
    measured = run.model_copy(update={"caption": run.caption.model_copy(update={"backend": "measured"})})
    Tables(Output(run.output)).write("efforts", 0, Effort, [Entry("a", Effort(0, 0, (), (), 0, 0, 5, 5, 5))], "f")
    assert list(figure_lines(caption_figures(measured, Output(run.output)))) == []
