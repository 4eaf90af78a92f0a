"""After a takedown nothing of it is found anywhere in the folder, nothing else has changed, and nothing comes back."""

from __future__ import annotations

import functools
import hashlib
import io
import multiprocessing
import os
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from crawl.errors import InputError
from crawl.output import Output
from crawl.photo import bucket_of, identity_key
from crawl.tables import Tables
from crawl.tombstones import read_tombstones
from filter.portrait import Portrait
from shards.__main__ import main
from shards.beside.ledger import funnel, read_ledger
from shards.features.feature import Feature, MadeFrom
from shards.features.tars import FeatureTars
from shards.format.index import read_index
from shards.read import Dataset
from shards.removal.request import request
from shards.removal.takedown import take_down
from shards.verify.dataset import verify_dataset

pytestmark = pytest.mark.slow
LATENTS = MadeFrom("latents", "test", "0" * 64, "float32", 32)


def ledger(output):
    return read_ledger(output).to_pylist()


def rows_of(output, name):
    return [row for row in ledger(output) if row["source"].startswith(name)]


def tars(output):
    return {shard.file: shard.sha256 for shard in read_index(output).shards}


def published(output):
    names = ["ledger.parquet", "identities.parquet", "README.md", *(f"shards/{n}" for n in output.names("shards"))]
    return {name: hashlib.sha256(output.read(name)).hexdigest() for name in names}


def everything_of(output, folder, rows, names=()):
    """All that must not be found once these rows were taken down."""
    words = [name.encode() for name in names]
    kept = {row["key"] for row in rows if row["status"] == "kept"}
    for row in rows:
        words += [row["key"].encode(), row["sha256"].encode()]
        words += [row[name].encode() for name in ("image_url", "source", "final_url") if row[name]]
        words += [row["page_url"].encode()] if row["page_url"] and names else []
        original = output.read(f"photos/{row['sha256'][:2]}/{row['sha256']}.jpg")
        words.append(original[len(original) // 2 :][:200])
    for bucket in {row["bucket"] for row in rows}:
        for entry in Tables(output).read("crop", bucket, Portrait):
            if entry.row is not None and entry.key in kept:
                words += [jpeg[len(jpeg) // 2 :][:200] for jpeg in (entry.row.image_jpeg, entry.row.face_jpeg)]
    return words


def with_features(output):
    """Two numbers a sample; the sample's key is among them, so to say."""
    base = read_index(output)
    features = FeatureTars(output.url, LATENTS, base)
    features.begin()
    with Dataset(output.url) as dataset:
        for number in sorted(features.pending):
            with features.write(number) as tar:
                for position in base.positions_in(number):
                    sample = dataset.sample(base.keys[position].decode())
                    tar.add(sample, {"latents": value_of(sample.key)})
            features.done(number)
    features.finish()


def value_of(key):
    return np.frombuffer(bytes.fromhex(key), np.uint8).astype(np.float32)


def test_a_person_is_gone_from_every_byte_and_nothing_else_has_changed(built, build, places):
    folder, run = built
    output = Output(run.output)
    (folder / "out" / "report.html").write_text("an old report of group-3")
    with_features(output)
    rows, before = rows_of(output, "group-3"), tars(output)
    planted = next(row for row in rows if row["source"] == "group-3/planted.jpg")
    assert planted["reason"] in ("not_this_person", "second_person")
    own = [row for row in rows if row is not planted]
    words = everything_of(output, folder, own, ["group-3", identity_key("group-3")])
    words.append(planted["key"].encode())
    assert all(places(folder / "out", [word]) for word in words), "the search finds what there is to be found"
    take_down(output, [request("identity", "group-3")])
    assert places(folder / "out", words) == []
    assert not output.exists("report.html")
    bucket = bucket_of(identity_key("group-3"), run.shards.buckets)
    others = {file: sha256 for file, sha256 in before.items() if not file.startswith(f"{bucket:05d}")}
    assert others
    assert others.items() <= tars(output).items()
    assert verify_dataset(output) == []
    removed = [row for row in ledger(output) if row["status"] == "removed"]
    assert len(removed) == len(rows)
    assert {row["reason"] for row in removed} == {"taken_down"}
    told = {(row["identity"], row["source"], row["sha256"], row["image_url"]) for row in removed}
    assert told == {("", "", "", None)}
    funnel(read_ledger(output, ["stage", "reason"]))
    assert read_index(output).version == 2
    kept = {row["source"] for row in rows_of(output, "group-2") if row["status"] == "kept"}
    assert "group-2/view-0.jpg" in kept, "another person's photo that was planted in the folder stays theirs"
    assert sorted(p.name for p in (folder / "photos" / "group-3").iterdir()), "the user's own folder is not touched"
    base = read_index(output)
    feature = Feature(output.url, LATENTS, base)
    for position in range(len(base)):
        assert np.array_equal(feature.arrays(position)["latents"], value_of(base.keys[position].decode()))


def test_builds_after_it_do_nothing_and_a_new_build_gives_the_same_bytes(built, build):
    folder, run = built
    output = Output(run.output)
    photo = next(row for row in rows_of(output, "astronaut") if row["status"] == "kept")
    take_down(output, [request("identity", "group-3"), request("sha256", photo["sha256"])])
    after = published(output)
    assert build(run) == []
    for again in ("tables/shards", "tables"):
        shutil.rmtree(folder / "out" / again)
        assert build(run)
        assert published(output) == after
    assert not [name for name in output.folders("photos") if name == photo["sha256"][:2]] or not output.exists(
        f"photos/{photo['sha256'][:2]}/{photo['sha256']}.jpg"
    )


def test_copies_of_a_photo_are_refused_by_their_bytes_and_by_their_looks(built, build, places):
    folder, run = built
    output = Output(run.output)
    photo = next(row for row in rows_of(output, "astronaut") if row["status"] == "kept")
    original = folder / "photos" / photo["source"]
    take_down(output, [request("sha256", photo["sha256"])])
    again = folder / "photos" / "group-2"
    shutil.copy(original, again / "copy.jpg")
    with Image.open(original) as picture:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
    (again / "saved-again.jpg").write_bytes(buffer.getvalue())
    saved_again = hashlib.sha256(buffer.getvalue()).hexdigest()
    (again / "other.jpg").write_bytes(b"changes the listing")
    build(run)
    assert {row["source"] for row in ledger(output)} & {"group-2/copy.jpg", "group-2/saved-again.jpg"} == set()
    assert sum(row["status"] == "removed" for row in ledger(output)) == 3
    assert places(folder / "out", [saved_again.encode(), buffer.getvalue()[2000:2200]]) == []
    assert verify_dataset(output) == []
    assert build(run) == []


def test_a_dry_run_and_a_wrong_request_change_nothing(built, capsys):
    folder, run = built
    output = Output(run.output)
    before = {f: f.stat().st_mtime_ns for f in (folder / "out").rglob("*") if f.is_file()}
    key = identity_key("group-3")
    assert main(["takedown", run.output, "--identity", "group-3", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "Would take down 5 photos" in said
    assert f"{key} group-3" in said
    assert "group-3/view-1.jpg" in said
    for kind, text in (("identity", "nobody"), ("url", "https://a.example/1.jpg"), ("sha256", "0" * 64)):
        with pytest.raises(InputError, match="no such") as caught:
            main(["takedown", run.output, "--identity", "group-3", f"--{kind}", text])
        assert len(str(caught.value).splitlines()) == 1
    assert {f: f.stat().st_mtime_ns for f in (folder / "out").rglob("*") if f.is_file()} == before
    assert not output.exists("tombstones.json")


def _killed_at(url, step, number):
    """Takes group-3 down, and dies when that step begins, or when so many files were put in place since."""
    replace, count = os.replace, iter(range(10**6))

    def begun(name):
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(source, target):
        if number is not None and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = counted
    take_down(Output(url), [request("identity", "group-3")], step=begun)


STEPS = ("intent", "originals", "tables", "whole", "features", "end")


MOMENTS = [*((step, None) for step in STEPS), *((None, number) for number in (3, 9, 14))]


@pytest.mark.parametrize(("step", "number"), MOMENTS)
def test_killed_at_any_moment_the_same_command_ends_it(built, places, build, step, number):
    folder, run = built
    output = Output(run.output)
    with_features(output)
    rows = [r for r in rows_of(output, "group-3") if r["source"] != "group-3/planted.jpg"]
    words = everything_of(output, folder, rows, ["group-3", identity_key("group-3")])
    child = multiprocessing.get_context("fork").Process(target=_killed_at, args=(run.output, step, number))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    if output.exists(".takedown.json"):
        with pytest.raises(InputError, match="a takedown was interrupted"):
            main(["build", run_file(folder, run)])
    assert main(["takedown", run.output, "--identity", "group-3"]) == 0
    assert places(folder / "out", words) == []
    assert not output.exists(".takedown.json")
    assert verify_dataset(output) == []
    assert read_index(output).version == 2
    assert sum(row["status"] == "removed" for row in ledger(output)) == 5
    assert build(run) == []
    Feature(output.url, LATENTS, read_index(output)).close()


def run_file(folder, run):
    shutil.copy(folder / "out" / "config.resolved.yaml", folder / "run.yaml")
    text = (folder / "run.yaml").read_text().replace("format: 1\n", "")
    (folder / "run.yaml").write_text(text)
    return str(folder / "run.yaml")


def test_a_copy_without_tables_is_rid_of_the_same(built, places, tmp_path, capsys):
    folder, run = built
    output = Output(run.output)
    rows = [r for r in rows_of(output, "group-3") if r["source"] != "group-3/planted.jpg"]
    words = everything_of(output, folder, rows, ["group-3", identity_key("group-3")])
    copy = Output(str(tmp_path / "copy"))
    for name in ("ledger.parquet", "identities.parquet", "README.md", "config.resolved.yaml"):
        copy.write(name, output.read(name))
    for name in output.names("shards"):
        copy.write(f"shards/{name}", output.read(f"shards/{name}"))
    before = tars(copy)
    assert main(["takedown", copy.url, "--identity", "group-3"]) == 0
    assert places(tmp_path / "copy", words) == []
    assert verify_dataset(copy) == []
    bucket = bucket_of(identity_key("group-3"), run.shards.buckets)
    assert {f: s for f, s in before.items() if not f.startswith(f"{bucket:05d}")}.items() <= tars(copy).items()
    assert read_index(copy).version == 2
    take_down(output, [request("identity", "group-3")])
    assert tars(copy) == tars(output)
    assert [r for r in ledger(copy) if r["status"] == "removed"] == [
        r for r in ledger(output) if r["status"] == "removed"
    ]
    assert main(["takedown", copy.url, "--identity", "group-3"]) == 0
    assert "taken down before" in capsys.readouterr().out
    assert pq.read_table(f"{copy.url}/identities.parquet")["name"].to_pylist() == ["group-2", "astronaut"]


def test_a_dataset_in_an_object_store(built, places, tmp_path):
    import fsspec

    folder, _ = built
    store = fsspec.filesystem("memory")
    store.put(str(folder / "out"), "/takedown-test", recursive=True)
    output = Output("memory://takedown-test")
    rows = [r for r in rows_of(output, "group-3") if r["source"] != "group-3/planted.jpg"]
    words = everything_of(output, folder, rows, ["group-3", identity_key("group-3")])
    take_down(output, [request("identity", "group-3")])
    store.get("/takedown-test", str(tmp_path / "back"), recursive=True)
    store.rm("/takedown-test", recursive=True)
    assert places(tmp_path / "back", words) == []
    assert verify_dataset(Output(str(tmp_path / "back"))) == []


def test_a_crawl_of_the_same_site_does_not_bring_it_back(tmp_path, site, photos, build, places):
    address, hits = site
    lines = ["name,image_url,page_url"]
    for file in sorted([*photos.glob("group-3/view-*.jpg"), *photos.glob("astronaut/view-*.jpg")]):
        lines.append(f"{file.parent.name},{address}/{file.parent.name}/{file.name},{address}/{file.parent.name}.html")
    (tmp_path / "urls.csv").write_text("\n".join(lines) + "\n")
    run = functools.partial(_network_run, tmp_path, address)
    build(run())
    output = Output(run().output)
    rows = rows_of(output, f"{address}/group-3/")
    photo = next(r for r in rows_of(output, f"{address}/astronaut/") if r["status"] == "kept")
    words = everything_of(output, tmp_path, rows, ["group-3", identity_key("group-3")])
    words += everything_of(output, tmp_path, [photo])
    main(["takedown", run().output, "--identity", "group-3", "--url", photo["image_url"]])
    assert places(tmp_path / "out", words) == []
    after = published(output)
    hits.clear()
    assert build(run()) == [], "nothing is to be done"
    assert published(output) == after
    # the list is read again, under another name for the person, with the same photo at another address
    copied = f"{address}/other/one.jpg"
    (tmp_path / "www" / "other").mkdir()
    name = photo["image_url"].removeprefix(address)
    shutil.copy(f"{tmp_path}/www{name}", tmp_path / "www" / "other" / "one.jpg")
    (tmp_path / "urls.csv").write_text("\n".join([*lines, f"astronaut,{copied},"]) + "\n")
    hits.clear()
    build(run())
    asked = {hit for hit in hits if hit.endswith(".jpg")}
    assert asked == {"/other/one.jpg"}, "what was taken down is not asked for"
    assert places(tmp_path / "out", [*words, copied.encode()]) == []
    hits.clear()
    build(run())
    assert not [hit for hit in hits if hit.endswith(".jpg")], "and its copy only once"
    assert verify_dataset(output) == []
    assert read_tombstones(output).version == 2


def _network_run(folder, address):
    from shards.config import BuildRun

    host = address.removeprefix("http://").rpartition(":")[0]
    return BuildRun.model_validate(
        {
            "output": str(folder / "out"),
            "crawl": {
                "source": "urls",
                "path": str(folder / "urls.csv"),
                "contact": "https://example.org/crawl",
                "interval_s": 0,
                "own_hosts": [host],
            },
            "filter": {"min_side_px": 256, "min_face_px": 128, "size_px": 128, "face_size_px": 112},
            "shards": {"buckets": 4},
        }
    )


def test_an_unfinished_dataset_is_rid_of_it_and_finished_by_its_build(built, build, places):
    folder, run = built
    output = Output(run.output)
    rows = [r for r in rows_of(output, "group-3") if r["source"] != "group-3/planted.jpg"]
    words = everything_of(output, folder, rows, ["group-3", identity_key("group-3")])
    for name in ("ledger.parquet", "tables/caption/00001.parquet"):
        output.remove(name)
    (done,), _ = take_down(output, [request("identity", "group-3")])
    assert not done.intent.finished
    assert places(folder / "out", words) == []
    assert not output.exists("README.md")
    assert "whole" in build(run)
    assert places(folder / "out", words) == []
    assert verify_dataset(output) == []
    assert sum(row["status"] == "removed" for row in ledger(output)) == 5


def test_other_files_that_mention_it_are_named(built, capsys):
    folder, run = built
    (folder / "out" / "notes").mkdir()
    (folder / "out" / "notes" / "mine.txt").write_text("group-3 is well lit")
    assert main(["takedown", run.output, "--identity", "group-3"]) == 1
    assert "notes/mine.txt still mentions it" in capsys.readouterr().out
