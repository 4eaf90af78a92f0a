"""What the report says, read as HTML: every photo once, scores against thresholds, reasons, and nothing unescaped."""

import html.parser
import re
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawl.errors import InputError
from crawl.output import Output
from crawl.tables import arrow_schema, to_record
from filter.config import FilterConfig, VerifyConfig
from filter.models import EMBEDDERS
from shards.__main__ import main
from shards.beside.identities import Identity, read_identities
from shards.beside.ledger import LedgerRow
from shards.card.facts import Carried
from shards.format.index import write_index
from shards.publish.public import public_identities, public_ledger
from shards.report.folder import Folder
from shards.report.people import least_cosine
from shards.report.photos import link
from shards.report.write import report_html, write_report


class Parsed(html.parser.HTMLParser):
    """Elements with their attributes, and all text outside scripts and styles."""

    def __init__(self, content):
        super().__init__()
        self.elements, self.text, self._inside = [], [], []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._inside.append(tag)

    def handle_endtag(self, tag):
        if tag in self._inside:
            del self._inside[len(self._inside) - 1 - self._inside[::-1].index(tag) :]

    def handle_data(self, data):
        if not {"script", "style"} & set(self._inside):
            self.text.append(data)

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(a.get(k.strip("_")) == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def written(hostile_dataset):
    path, num_bytes = write_report(hostile_dataset.url)
    content = hostile_dataset.read("report.html").decode()
    assert len(content.encode()) == num_bytes
    assert path.endswith("report.html")
    return content


@pytest.fixture(scope="module")
def parsed(written):
    return Parsed(written)


def test_every_photo_is_there_once_with_its_outcome(parsed):
    photos = parsed.all("li", class_="photo")
    assert len(photos) == 17
    assert sorted(p["data-group"] for p in photos) == sorted(
        ["kept"] * 8 + ["rejected"] * 4 + ["duplicate", "failed", "failed", "removed", "removed"]
    )
    scores = {p["data-score"] for p in photos if p["data-group"] == "kept"}
    assert scores == {f"{0.5 + n / 20:.6f}" for n in range(5)}
    assert {p.get("data-score") for p in photos if p["data-reason"] == "not_this_person"} == {"0.210000", "0.350000"}


def test_hostile_texts_are_text(parsed, written, hostile):
    text = "".join(parsed.text)
    for given in (
        *hostile.names.values(),
        hostile.caption,
        hostile.licence,
        hostile.page_url,
        "<script>alert(4)</script>",
        "<i>basis</i>",
    ):
        assert given in text, given
    assert len(parsed.all("script")) == 4, "charts' data, Plotly packed, two of our own"
    assert not [a for t, a in parsed.elements if any(name.startswith("on") for name in a)]
    assert not parsed.all("b")
    assert not parsed.all("i")
    assert "</script><img" not in written


def test_only_web_addresses_are_links(parsed):
    assert all(a["href"].startswith(("#", "https://example.org/")) for a in parsed.all("a"))
    assert not [
        a for _, a in parsed.elements if str(a.get("src", "data:image/jpeg")).split(";")[0] != "data:image/jpeg"
    ]


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", " https://a.b/", "data:text/html,x", "file:///x",
     "https://", "https://[", "//example.org/", "photos/x.jpg", "", None, "https://a.b/" + "x" * 3000],
)  # fmt: skip
def test_these_addresses_are_no_links(url):
    assert link(url) is None


def test_these_are_links():
    for url in ("https://example.org/a?b=1#c", "http://127.0.0.1:80/x"):
        assert link(url) == url


def test_what_cannot_be_shown_says_why(parsed):
    text = " ".join(parsed.text)
    for reason in (
        "the original is not in this folder",
        "could not be had: http_status",
        "not opened: it killed the process that looked at it",
        "taken down",
    ):
        assert reason in text, reason
    assert "2 photos were taken down" in text


def test_scores_stand_beside_thresholds_and_findings_are_said(parsed, hostile):
    text = re.sub(r"\s+", " ", " ".join(parsed.text))
    assert "cosine to this person 0.210, at least 0.400" in text
    assert "3 of 64 bits differ, at most 6" in text
    assert "0.210, 0.100" in text, "the cosines of both faces, nearest first"
    assert "2 photos show one other person" in text
    assert "No person is in enough of the photos" in text
    assert f"Shows the same person as {hostile.names[hostile.ada]}" in text
    assert "none: no_body" in text
    assert "photos found 17" in text
    assert "scan 16 4.0 4.0" in text, "8 photos in 2 s, in each of two buckets"


def test_the_face_in_question_is_the_nearest_one(hostile_dataset, hostile):
    from shards.report.originals import Originals

    row = next(r for r in Folder(hostile_dataset.url).rows_of(hostile.ada) if r.value == 0.21)
    originals = Originals(hostile_dataset)
    assert originals.seen(row.bucket, row.key).box_xyxy_px == (50.0, 40.0, 110.0, 100.0)
    picture = originals.face(row)
    assert picture.getpixel((picture.width // 2, picture.height // 2)) == pytest.approx((240, 200, 170), abs=6)
    assert picture.width == picture.height == 84, "the box, and a fifth on each side"


def test_a_hash_of_the_ledger_is_never_a_path(hostile_dataset, hostile):
    from shards.report.originals import Originals

    (row,) = Folder(hostile_dataset.url).rows_of(hostile.nobody)
    assert row.sha256.startswith("../")
    assert Originals(hostile_dataset).picture(row) == "the original is not in this folder"


def test_the_same_dataset_gives_the_same_bytes(hostile_dataset, written):
    write_report(hostile_dataset.url)
    assert hostile_dataset.read("report.html").decode() == written


@pytest.mark.parametrize("spelling", ["{0}/", "{0}/../{0.name}", "file://{0}", "."])
def test_it_goes_by_the_name_of_its_folder_however_that_is_spelled(
    hostile_dataset, written, parsed, monkeypatch, spelling
):
    path = Path(hostile_dataset.url)
    monkeypatch.chdir(path)
    assert f"Dataset report{path.name}" in "".join(parsed.text)
    assert report_html(Folder(spelling.format(path))) == written


@pytest.mark.parametrize(
    "lost", [("identities.parquet",), ("config.resolved.yaml",), ("tables",), ("photos", "tables")]
)
def test_what_is_unknown_is_left_out_and_said(hostile_dataset, tmp_path, lost, hostile):
    shutil.copytree(hostile_dataset.url, tmp_path / "d")
    for name in lost:
        gone = tmp_path / "d" / name
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    write_report(str(tmp_path / "d"))
    page = Parsed((tmp_path / "d" / "report.html").read_text())
    text = " ".join(page.text)
    said = {
        "identities.parquet": "people are shown by their keys",
        "config.resolved.yaml": "settings are unknown",
        "tables": "the faces are unknown",
        "photos": "the original is not in this folder",
    }
    assert all(said[name] in text for name in lost)
    assert len(page.all("li", class_="photo")) == 17
    if lost == ("identities.parquet",):
        assert hostile.star in text
        assert hostile.names[hostile.star] not in text


def test_a_damaged_shard_costs_its_pictures_only(hostile_dataset, tmp_path):
    shutil.copytree(hostile_dataset.url, tmp_path / "d")
    shard = next((tmp_path / "d" / "shards").glob("*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1000])
    write_report(str(tmp_path / "d"))
    text = " ".join(Parsed((tmp_path / "d" / "report.html").read_text()).text)
    assert "cannot be read" in text
    assert "the index says" in text


@pytest.mark.parametrize("limit", ["MAX_PHOTOS", "MAX_PICTURE_BYTES"])
def test_a_file_that_is_full_lists_the_others(hostile_dataset, monkeypatch, limit):
    from shards.report import write

    monkeypatch.setattr(write, limit, 1)
    page = Parsed(write.report_html(Folder(hostile_dataset.url)))
    assert len(page.all("section", class_="person")) == 1
    assert "more people are listed above but not shown" in " ".join(page.text)
    assert "Of 8 kept photos." in " ".join(page.text), "distributions are of all of them all the same"


def test_the_command(hostile_dataset, tmp_path, capsys):
    assert main(["report", hostile_dataset.url, "--output", str(tmp_path / "new" / "x.html")]) == 0
    assert (tmp_path / "new" / "x.html").read_text().startswith("<!doctype html>")
    assert "x.html (" in capsys.readouterr().out


def test_wrong_folders_are_one_line(tmp_path, hostile_dataset):
    with pytest.raises(InputError, match="no finished dataset here"):
        write_report(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="is a folder"):
        write_report(hostile_dataset.url, str(tmp_path))
    shutil.copytree(hostile_dataset.url, tmp_path / "d")
    (tmp_path / "d" / "ledger.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"ledger\.parquet or identities\.parquet is broken"):
        write_report(str(tmp_path / "d"))
    Output(str(tmp_path / "d")).remove("shards/index.json")
    with pytest.raises(InputError, match="no finished dataset there"):
        write_report(str(tmp_path / "d"))


def test_a_threshold_is_what_photos_were_compared_with(hostile_dataset, hostile):
    folder = Folder(hostile_dataset.url)
    rows = folder.rows_of(hostile.ada)
    assert least_cosine(rows, 5, folder.run, None) == 0.4, "as the run file has it"
    embedder = EMBEDDERS["embedded"]
    default = folder.run.model_copy(update={"filter": FilterConfig()})
    assert least_cosine(rows, 2, default, None) == pytest.approx(embedder.pair_threshold), "to a centre of one other"
    assert sorted((embedder.pair_threshold, least_cosine(rows, 10, default, None), embedder.threshold))[1] == (
        least_cosine(rows, 10, default, None)
    ), "in between"
    linkage = folder.run.model_copy(update={"filter": FilterConfig(verify=VerifyConfig(rule="linkage"))})
    assert least_cosine(rows, 10, linkage, None) == embedder.threshold
    deltas = folder.run.model_copy(update={"filter": FilterConfig(verify=VerifyConfig(rule="photomaker-8delta"))})
    assert least_cosine(rows, 10, deltas, None) is None, "that rule compares no cosines"
    assert least_cosine(rows, 5, None, None) == 0.4, "without the run file, by the ledger"
    assert least_cosine([], 5, None, None) is None, "unknown"
    assert least_cosine(rows, 0, folder.run, None) is None, "nothing was compared"


def test_a_dataset_without_a_photo(tmp_path):
    output = Output(str(tmp_path / "d"))
    write_index(output, 2, [], [])
    with output.create("ledger.parquet") as file:
        pq.write_table(arrow_schema(LedgerRow).empty_table(), file)
    write_report(output.url)
    text = " ".join(Parsed(output.read("report.html").decode()).text)
    assert "No photo is kept." in text
    assert "0 names" in text


def test_a_dataset_behind_a_url(hostile_dataset):
    store = fsspec.filesystem("memory")
    store.put(hostile_dataset.url, "/report-test", recursive=True)
    try:
        where, _ = write_report("memory://report-test")
        assert where == "memory://report-test/report.html"
        assert len(Parsed(store.cat("/report-test/report.html").decode()).all("li", class_="photo")) == 17
    finally:
        store.rm("/report-test", recursive=True)


def test_a_published_ledger_tells_less(hostile_dataset, tmp_path, hostile):
    """As `publish` strips it: no rejected photo has a key, and people have no names."""
    shutil.copytree(hostile_dataset.url, tmp_path / "d", ignore=shutil.ignore_patterns("tables", "photos"))
    ledger = pq.read_table(tmp_path / "d" / "ledger.parquet")
    pq.write_table(public_ledger(ledger, Carried({}, ())), tmp_path / "d" / "ledger.parquet")
    output = Output(str(tmp_path / "d"))
    people = public_identities(read_identities(output), {hostile.ada, hostile.star}, names=False)
    table = pa.Table.from_pylist([to_record(p) for p in people], schema=arrow_schema(Identity))
    pq.write_table(table, tmp_path / "d" / "identities.parquet")
    write_report(output.url)
    page = Parsed(output.read("report.html").decode())
    text = " ".join(page.text)
    assert len(page.all("li", class_="photo")) == 17
    assert len(page.all("section", class_="person")) == 3
    assert "does not tell which photo it was" in text
    assert "no person on record" in text
    assert hostile.names[hostile.star] not in text
    assert hostile.star in text


@pytest.mark.parametrize(
    "nonsense",
    [{"original_size": 3, "classes": [1], "identity_score": "high", "face_xyxy_px": None, "keypoints": 7},
     {"identity_score": 10**400, "keypoint_scores": ["a"] * 12, "landmarks_px": [[0, 0]] * 5, "general": None},
     {"size_px": 0, "original_size": [1, 2, 3], "keypoints": [[1]], "sharpness": 1e300},
     {"crop_xyxy_px": [0, 0, 0, 0], "size_px": "<b>", "caption_made_by": {"a": 1}, "identity_score": True}],
)  # fmt: skip
def test_metadata_that_is_nonsense_costs_its_own_line(hostile_dataset, monkeypatch, nonsense):
    folder = Folder(hostile_dataset.url)
    read = folder.dataset.sample

    def sample(key):
        found = read(key)
        return replace(found, metadata=found.metadata | nonsense)

    monkeypatch.setattr(folder.dataset, "sample", sample)
    assert len(Parsed(report_html(folder)).all("li", class_="photo")) == 17
