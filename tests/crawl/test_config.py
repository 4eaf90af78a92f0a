"""Run files: every key has a default, everything wrong is one line that names the field."""

import pytest

from crawl.config import CrawlRun, load
from crawl.errors import InputError
from shards.config import BuildRun

WORKING = """
output: out/mine
crawl: {source: folder, root: photos}      # photos/PERSON/*.jpg
filter: {models: embedded, min_side_px: 512, min_face_px: 256, size_px: 512}
caption: {backend: measured}
shards: {buckets: 16, max_shard_mb: 512}
engine: {cpus: 2}                          # address: for a cluster
"""


@pytest.fixture
def run_file(tmp_path):
    def write(text):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_the_readme_file_works_as_it_stands(run_file):
    run = load(BuildRun, run_file(WORKING), [])
    assert (run.output, run.crawl.sources[0].root, run.filter.min_face_px, run.shards.buckets, run.engine.cpus) == (
        "out/mine", "photos", 256, 16, 2,
    )  # fmt: skip


def test_two_keys_are_enough(run_file):
    run = load(BuildRun, run_file("output: o\ncrawl: {root: p}"), [])
    assert run.filter.models == "embedded"
    assert run.caption.backend == "measured"


def test_an_upstream_command_reads_a_whole_run_file(run_file):
    assert load(CrawlRun, run_file(WORKING), []).shards.buckets == 16


def test_several_sources_are_a_list(run_file):
    text = "output: o\ncrawl: {sources: [{source: folder, root: a}, {source: celeba, root: b}], max_bytes: 9}"
    crawl = load(BuildRun, run_file(text), []).crawl
    assert [(s.source, s.root) for s in crawl.sources] == [("folder", "a"), ("celeba", "b")]
    assert crawl.max_bytes == 9


def test_overrides_are_typed_by_yaml(run_file):
    run = load(
        BuildRun, run_file(WORKING), ["filter.min_side_px=256", "filter.verify.rule=linkage", "engine.cpus=null"]
    )
    assert (run.filter.min_side_px, run.filter.verify.rule, run.engine.cpus) == (256, "linkage", None)


@pytest.mark.parametrize(
    ("text", "overrides", "named"),
    [
        ("output: o\ncrawl: {root: p}\nfilters: {}", [], "filters: unknown key (did you mean filter?)"),
        (WORKING, ["filter.min_side=3"], "filter.min_side: unknown key (did you mean min_side_px?)"),
        (WORKING, ["filter.verify.treshold=0.3"], "filter.verify.treshold: unknown key (did you mean threshold?)"),
        (WORKING, ["filter.min_side_px=big"], "filter.min_side_px: Input should be a valid integer"),
        (WORKING, ["filter.min_face_share=2"], "filter.min_face_share: Input should be less than 1 (got 2)"),
        (WORKING, ["shards.buckets=0"], "shards.buckets: Input should be greater than or equal to 1 (got 0)"),
        (WORKING, ["filter.models=insightface"], "filter.accept_licence"),
        (WORKING, ["crawl.source=ftp"], "crawl.source"),
        (WORKING, ["filter"], "filter: an override is written key=value"),
        (WORKING, ["output.x=1"], "output.x=1: output is not a section"),
        (WORKING, ["filter.size_px=[1"], "not valid YAML"),
        ("output: o", [], "crawl: Field required"),
        ("output: o\ncrawl: {source: folder}", [], "crawl.root: Field required"),
        ("output: o\ncrawl: {rot: p}", [], "crawl.rot: unknown key (did you mean root?)"),
        ("output: o\ncrawl: {root: p, basiss: b}", [], "crawl.basiss: unknown key (did you mean basis?)"),
        ("output: o\ncrawl: {root: p, max_byte: 3}", [], "crawl.max_byte: unknown key (did you mean max_bytes?)"),
        ("output: o\ncrawl: {source: urls, contact: a@b.c}", [], "crawl.path: Field required"),
        (
            "output: o\ncrawl: {source: commons, contact: a@b.c, quer: x}",
            [],
            "crawl.quer: unknown key (did you mean query",
        ),
        (
            "output: o\ncrawl: {people: {list: csv, pat: x}, root: p}",
            [],
            "crawl.people.pat: unknown key (did you mean path",
        ),
        ("output: o\ncrawl: {sources: [{source: folder, root: p}, {source: urls}]}", [], "crawl.sources.1.path: Field"),
        ("output: o\ncrawl: {sources: []}", [], "crawl.sources: Tuple should have at least 1 item"),
        ("output: o\ncrawl: {sources: [{root: a}]}", [], "crawl.source: Unable to extract tag"),
        ("crawl: {root: p}", [], "output: Field required"),
        ("- a\n- b", [], "expected a mapping"),
        ("output: [", [], "not valid YAML"),
        ("", [], "expected a mapping"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_field(run_file, text, overrides, named):
    with pytest.raises(InputError) as error:
        load(BuildRun, run_file(text), overrides)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_run_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml: no such config file"):
        load(BuildRun, str(tmp_path / "nowhere.yaml"), [])


def test_a_binary_run_file_is_refused(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="cannot be read"):
        load(BuildRun, str(path), [])
