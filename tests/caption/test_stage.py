"""The caption stage: one answer a portrait, whatever a back-end does."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from caption.captioned import Caption
from caption.captioner import Backend
from caption.config import CaptionRun
from caption.describing import DescribingCaptioner
from caption.dialogue import Effort
from caption.measured import MeasuredCaptioner
from caption.stage import CaptionStage
from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import Rejection
from crawl.stage import pending, run_pending
from crawl.tables import Entry, Tables
from filter.portrait import Portrait

ROOT = Path(__file__).parents[2]
REJECTED = Rejection("crop", "truncated")


def run_of(folder, **caption):
    return CaptionRun.model_validate({"output": str(folder), "crawl": {"root": "."}, "caption": caption})


def silent(stage, photos):
    pass


@pytest.fixture
def output(tmp_path):
    return Output(str(tmp_path))


@pytest.fixture
def portraits(draw, portrait_of):
    return [portrait_of(draw(clothes=(20 * n, 40, 200 - 20 * n)), number=n) for n in range(10)]


@pytest.fixture
def crop(output, portraits):
    """Write the upstream table: every portrait, and one rejection in the middle."""

    def write(rows=portraits, stamp="upstream-1", bucket=0):
        entries = [Entry(row.key, row) for row in rows]
        entries.insert(3, Entry("r" * 32, None, REJECTED))
        Tables(output).write("crop", bucket, Portrait, entries, stamp)

    write()
    return write


class Scripted:
    """A back-end whose answers and failures are given, and that writes down what it was asked."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def caption(self, portraits):
        self.asked.append([portrait.photo.source for portrait in portraits])
        return [self.answer(portrait) for portrait in portraits]

    def backend(self, made_by="scripted-1"):
        return Backend(
            lambda config: made_by,
            lambda config: {},
            lambda config, output: lambda replies: DescribingCaptioner(self, config.batch_size),
        )


def good(portrait):
    return Caption("a photo of a person", "", f"number {portrait.photo.source[:-4]}", "person", 19, "scripted-1")


def captions(output, run, backend=None, tick=silent):
    stage = CaptionStage(run, output, backend)
    run_pending([stage], 0, Tables(output), tick)
    return list(Tables(output).read("caption", 0, Caption))


def test_every_portrait_has_a_caption_and_rejected_keys_are_not_repeated(output, crop, portraits):
    ticks = []
    entries = captions(output, run_of(output.url), tick=lambda *told: ticks.append(told))
    assert [e.key for e in entries] == [p.key for p in portraits]
    assert all(e.row is not None and e.rejection is None for e in entries)
    assert [e.row for e in entries] == MeasuredCaptioner().caption(portraits)
    assert ticks == [("caption", 1)] * len(portraits)


def test_rows_are_streamed_in_batches(output, crop):
    """A batch is asked for only once the one before has been handed on."""
    scripted, asked_by_then = Scripted(good), []
    run = run_of(output.url, batch_size=4)
    captions(output, run, scripted.backend(), tick=lambda *told: asked_by_then.append(len(scripted.asked)))
    assert [len(batch) for batch in scripted.asked] == [4, 4, 2]
    assert asked_by_then == [1] * 4 + [2] * 4 + [3] * 2


def test_the_batch_size_changes_no_byte(output, crop):
    path = Path(output.url) / "tables" / "caption" / "00000.parquet"
    tables = []
    for size in (1, 3, 8, 100):
        stage = CaptionStage(run_of(output.url, batch_size=size), output)
        stage.run(0, stage.fingerprint(0), silent)
        tables.append(path.read_bytes())
    assert len(set(tables)) == 1


def test_a_finished_bucket_is_not_done_again_until_its_input_changes(output, crop, portraits):
    stage, tables = CaptionStage(run_of(output.url), output), Tables(output)
    assert pending([stage], [0], tables) == [0]
    run_pending([stage], 0, tables, silent)
    assert pending([CaptionStage(run_of(output.url, batch_size=3), output)], [0], tables) == []
    crop(portraits[:5], stamp="upstream-2")
    assert run_pending([stage], 0, tables, silent) == ["caption"]
    assert tables.count("caption", 0) == 5


def test_another_version_of_the_back_end_is_other_work(output, crop):
    one, other = (CaptionStage(run_of(output.url), output, Scripted(good).backend(made_by=v)) for v in ("v1", "v2"))
    assert one.fingerprint(0) != other.fingerprint(0)


def test_an_interrupted_run_leaves_no_table_and_the_next_one_finishes(output, crop, portraits):
    def interrupted(portrait):
        if portrait.key == portraits[6].key:
            raise KeyboardInterrupt
        return good(portrait)

    with pytest.raises(KeyboardInterrupt):
        captions(output, run_of(output.url, batch_size=2), Scripted(interrupted).backend())
    assert Tables(output).fingerprint("caption", 0) is None
    assert len(captions(output, run_of(output.url), Scripted(good).backend())) == len(portraits)


@pytest.mark.parametrize("error", [RuntimeError("boom"), KeyError("what"), OSError("short read"), TypeError("no")])
def test_one_bad_portrait_costs_one_row(output, crop, portraits, error):
    def fails(portrait):
        if portrait.key == portraits[5].key:
            raise error
        return good(portrait)

    entries = captions(output, run_of(output.url), Scripted(fails).backend())
    bad = {e.key: e.rejection for e in entries if e.rejection is not None}
    assert bad == {portraits[5].key: Rejection("caption", "error", detail=f"{type(error).__name__}: {error}")}
    assert sum(e.row is not None for e in entries) == len(portraits) - 1


def test_a_broken_crop_costs_one_row(output, crop, portraits):
    crop([dataclasses.replace(p, image_jpeg=p.image_jpeg[:200]) if n == 2 else p for n, p in enumerate(portraits)])
    entries = captions(output, run_of(output.url))
    (bad,) = [e for e in entries if e.row is None]
    assert (bad.key, bad.rejection.reason) == (portraits[2].key, "error")


@pytest.mark.parametrize("error", [MemoryError(), InputError("endpoint: no key"), KeyboardInterrupt()])
def test_what_is_no_photos_fault_ends_the_run(output, crop, error):
    def fails(portrait):
        raise error

    with pytest.raises(type(error)):
        captions(output, run_of(output.url), Scripted(fails).backend())
    assert Tables(output).fingerprint("caption", 0) is None


def test_a_faulty_caption_is_rejected_with_its_faults(output, crop, portraits):
    def faulty(portrait):
        caption = good(portrait)
        return dataclasses.replace(caption, body="") if portrait.key == portraits[0].key else caption

    entries = captions(output, run_of(output.url), Scripted(faulty).backend())
    assert entries[0] == Entry(
        portraits[0].key, None, Rejection("caption", "invalid_caption", 1.0, 0.0, "body is empty")
    )
    assert all(e.row is not None for e in entries[1:])


def test_a_back_ends_own_rejection_is_kept(output, crop, portraits):
    refused = Rejection("caption", "refused", detail="the model would not")
    entries = captions(output, run_of(output.url), Scripted(lambda portrait: refused).backend())
    assert {e.rejection for e in entries} == {refused}


def test_efforts_are_written_with_the_captions(output, crop, portraits):
    captions(output, run_of(output.url))
    entries = list(Tables(output).read("efforts", 0, Effort))
    assert [e.key for e in entries] == [p.key for p in portraits]
    assert all(e.row.replies == e.row.answers == 0 and 2 < e.row.general_tokens <= 77 for e in entries)
    assert Tables(output).fingerprint("efforts", 0) == Tables(output).fingerprint("caption", 0)


def test_a_bucket_without_portraits_is_a_finished_bucket(output):
    Tables(output).write("crop", 0, Portrait, [], "f")
    assert captions(output, run_of(output.url)) == []
    assert Tables(output).fingerprint("caption", 0) is not None


def command(folder, *overrides):
    config = folder / "run.yaml"
    config.write_text(f"output: {folder}\ncrawl: {{root: .}}\nshards: {{buckets: 1}}\n")
    arguments = [sys.executable, "-m", "caption", str(config), *overrides]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_captions_and_says_so(output, crop, portraits):
    result = command(Path(output.url))
    assert (result.returncode, result.stderr.strip()) == (0, "")
    assert result.stdout == f"10 portraits, 10 captions: {output.url}\n"
    assert Tables(output).count("caption", 0) == len(portraits)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "run python -m filter first"),
        (("caption.backend=qwenn",), "caption.backend"),
        (("caption.batchsize=3",), "did you mean batch_size?"),
    ],
)
def test_the_command_names_what_is_wrong_in_one_line(tmp_path, overrides, message):
    result = command(tmp_path, *overrides)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
