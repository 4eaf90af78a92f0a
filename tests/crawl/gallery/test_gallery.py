"""The gallery source on a loopback site built like the celebrity gallery that BoLID crawled."""

import dataclasses
import io
import subprocess
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np
import pytest
import yaml
from PIL import Image

from crawl.collect import CrawlStage
from crawl.config import CrawlRun, load
from crawl.errors import InputError
from crawl.fetching.api import Api
from crawl.fetching.target import Target
from crawl.gallery.page import Page, folded, image_url, person_url
from crawl.gallery.trial import try_page
from crawl.harvest import ask_here, fetch_settings, harvest
from crawl.output import Output
from crawl.people.person import Person
from crawl.photo import Photo, identity_key
from crawl.policy.politeness import FetchSettings
from crawl.policy.refusals import REASONS as REFUSALS
from crawl.source_config import GallerySettings
from crawl.sources.gallery import GallerySource
from crawl.sources.listing import REASONS
from crawl.tables import Tables

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "configs" / "gallery.yaml"


def shipped(**changes):
    """The settings of configs/gallery.yaml, which this site is built for."""
    crawl = {k: v for k, v in yaml.safe_load(SHIPPED.read_text())["crawl"].items() if k != "people"}
    return GallerySettings.model_validate(crawl | {"min_photos": 5} | changes)


def jpeg(seed):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


def links(kind, *hrefs):
    return f'<div class="{kind}">' + "".join(f'<a href="{href}">{text}</a>' for href, text in hrefs) + "</div>"


def description(count):
    return f"<p>В этом разделе собрано {count} фото высокого качества.</p>"


def thumbnails(*hrefs):
    return links("row gx-1 justify-content-center", *((href, '<img src="/small.jpg">') for href in hrefs))


def photo_page(image):
    return f'<div class="pic-big-box__main"><span class="s-pic"><img src="{image}"></span></div><img src="/ad.jpg">'


class Site:
    """Two letters. Ada has six photos on three pages, one dead, one noai; Bob too few; Zoé is spelled in NFD."""

    def __init__(self, server, answers):
        self.server, self.html, self.answers = server, answers.html, answers
        route = server.route
        route("/robots.txt", answers.text("User-agent: *\nDisallow: /private/\n"))
        route("/photos/", self.html(links("letters-list", ("/photos/?l=A", "A"), ("/photos/Z.html", "Z"), ("#", "x"))))
        route("/photos/Z.html", self.html(links("models_list", ("/photos/zoe/", unicodedata.normalize("NFD", "Zoé")))))
        route("/photos/ada/", self._ada)
        route("/photos/bob/", self.html(description(4) + thumbnails("/pic/b1.html")))
        route("/photos/zoe/", self.html(description(5) + thumbnails("/pic/z1.html")))
        route("/pic/5.html", self.html(photo_page("/full/5.jpg"), meta={"robots": "noai"}))
        for name in ("1", "2", "3", "4", "z1", "b1"):
            route(f"/pic/{name}.html", self.html(photo_page(f"../full/{name}.jpg")))
            route(f"/full/{name}.jpg", answers.ok(jpeg(len(name) * 100 + ord(name[-1]))))
        route("/full/5.jpg", answers.ok(jpeg(5)))
        # the first page of letters has a query, which a route does not see
        self.letter = links("models_list", ("ada/", "Ada  Lovelace"), ("/photos/bob/", "Bob"), ("ada/#top", "Ada"))
        self.start = server.routes[None, "/photos/"]
        route("/photos/", self._photos)

    def _photos(self, exchange):
        (self.html(self.letter) if "l=A" in exchange.hit.path else self.start)(exchange)

    def _ada(self, exchange):
        page = exchange.hit.path.partition("page=")[2] or "1"
        shown = {
            "1": thumbnails("/pic/1.html", "/pic/2.html", "/pic/1.html", "http://elsewhere.test/pic/9.html"),
            "2": thumbnails("/pic/2.html", "/pic/3.html", "/pic/dead.html", "/private/6.html"),
            "3": thumbnails("/pic/4.html", "/pic/5.html"),
        }.get(page, thumbnails("/pic/1.html"))
        more = links("listalka", ("?page=2", "2"), ("?page=3", "3"), (f"?page={int(page) + 1}", "→"))
        self.html(description(6) + shown + more)(exchange)

    def __call__(self, *names, fetch=None, **changes):
        """What the source lists for these people: ([names of images], {(name, reason): where})."""
        settings = shipped(start_url=self.server.url("/photos/"), **changes)
        people = [Person(identity_key(name), name, "test", "text") for name in names]
        found = list(GallerySource(settings, fetch or self.fetch).find(people))
        self.targets = [item for item in found if isinstance(item, Target)]
        self.unlisted = [item for item in found if not isinstance(item, Target)]
        images = [target.image_url.rpartition("/")[2].removesuffix(".jpg") for target in self.targets]
        return images, {(u.name, u.rejection.reason): u.where.rpartition("/")[2] or u.where for u in self.unlisted}

    @property
    def fetch(self):
        return FetchSettings(interval_s=0, own_hosts=(self.server.host,), retries=0, backoff_s=0.01)


@pytest.fixture
def site(hostile_server, answers):
    return Site(hostile_server(), answers)


def test_from_letters_to_photos_with_every_loss_named(site):
    images, lost = site("Ada Lovelace", "Bob", "zoé", "Nobody Né")
    assert images == ["1", "2", "3", "4", "z1"]
    assert lost == {
        ("Ada Lovelace", "other_host"): "9.html",
        ("Ada Lovelace", "http_status"): "dead.html",
        ("Ada Lovelace", "robots_disallowed"): "6.html",
        ("Ada Lovelace", "opted_out"): "5.html",
        ("Bob", "too_few_photos"): site.server.url("/photos/bob/"),
        ("Nobody Né", "no_such_person"): site.server.url("/photos/"),
    }
    ada, *_, zoe = site.targets
    url = site.server.url
    assert ada == Target("Ada Lovelace", url("/full/1.jpg"), url("/pic/1.html"))
    assert zoe.name == "zoé", "a person is called as the list of people calls them"
    by_reason = {u.rejection.reason: u.rejection for u in site.unlisted}
    assert (by_reason["too_few_photos"].value, by_reason["too_few_photos"].threshold) == (4, 5)
    assert by_reason["opted_out"].detail == "meta robots: noai"
    assert by_reason["http_status"].value == 404
    assert {*by_reason} <= {*REASONS, *REFUSALS}


def test_what_is_asked_of_the_site(site):
    site("Ada Lovelace", "Bob", "Zoé")
    asked = site.server.paths()
    assert len(asked) == len(set(asked)), "every page once"
    assert asked[0] == "/robots.txt"
    assert not [path for path in asked if path.startswith(("/full/", "/private/", "/small", "/ad"))], "no photo yet"
    assert "/pic/b1.html" not in asked, "Bob has too few photos"
    assert asked.count("/photos/ada/?page=4") == 1, "a page without a new photo may be the first again"
    assert "/photos/ada/?page=6" not in asked, "two of them in a row are the end"
    assert site.server.max_concurrency() == 1


def test_only_named_people_are_crawled(site):
    assert site("zoé".upper(), min_photos=0) == (["z1"], {})
    assert not [path for path in site.server.paths() if path.startswith(("/photos/ada", "/photos/bob"))]


def test_without_the_rest_of_the_list_when_everybody_is_found(site):
    site("Bob")
    assert "/photos/Z.html" not in site.server.paths()


def test_all_people_when_no_list_is_given(site):
    images, lost = site(all_people=True, min_photos=0)
    assert images == ["1", "2", "3", "4", "b1", "z1"]
    assert {target.name for target in site.targets} == {"Ada Lovelace", "Bob", "Zoé"}
    assert ("", "no_such_person") not in lost


def test_a_second_link_of_one_name_may_be_somebody_else(site):
    site.server.route("/photos/Z.html", site.html(links("models_list", ("/photos/bob/", "ADA lovelace"))))
    images, lost = site("Ada Lovelace", "Zoé")
    assert images == ["1", "2", "3", "4"]
    assert ("ADA lovelace", "namesake") not in lost, "Bob's page is known by its address"
    site.server.route("/photos/Z.html", site.html(links("models_list", ("/photos/other/", "ADA lovelace"))))
    assert ("ADA lovelace", "namesake") in site("Ada Lovelace", "Zoé")[1]
    assert "/photos/other/" not in site.server.paths()


def test_max_photos_ends_a_person(site):
    images, _ = site("Ada Lovelace", "Zoé", max_photos=2)
    assert images == ["1", "2", "z1"]
    assert "/pic/3.html" not in site.server.paths()


@pytest.mark.parametrize("how", ["meta", "header", "tdm header", "tdm file"])
def test_a_persons_page_that_opts_out_is_gone_no_further(site, answers, how):
    body = description(9) + thumbnails("/pic/z1.html")
    page = {
        "meta": site.html(body, meta={"robots": "index, noimageai"}),
        "header": site.html(body, headers=[("X-Robots-Tag", "otherbot: all"), ("X-Robots-Tag", "noai")]),
        "tdm header": site.html(body, headers=[("tdm-reservation", "1")]),
        "tdm file": site.html(body),
    }[how]
    site.server.route("/photos/zoe/", page)
    if how == "tdm file":
        rules = '[{"location": "/photos/zoe*", "tdm-reservation": 1}]'
        site.server.route("/.well-known/tdmrep.json", answers.json(rules))
    images, lost = site("Zoé")
    assert (images, [*lost]) == ([], [("Zoé", "opted_out")])
    assert "/pic/z1.html" not in site.server.paths()


def test_xpath_and_lazy_images(site):
    lazy = '<p><a href="/full/big.jpg"><img src="/blank.gif" data-src="/full/z1.jpg"></a></p>'
    site.server.route("/pic/z1.html", site.html(lazy))
    changes = {
        "letters": "//div[@class='letters-list']/a/@href",
        "person_links": "(//div[@class='models_list'])[1]/a",
        "person_name": "./text()",
        "photo": "//p//img/@data-src",
        "thumbnails": "//div[contains(@class, 'gx-1')]/a",
    }
    assert site("Zoé", **changes)[0] == ["z1"]
    assert site("Zoé", **changes | {"photo": "p a"})[0] == ["big"]
    assert site("Zoé", **changes | {"photo": "p img::attr(data-src)"})[0] == ["z1"]


def test_templates_instead_of_lists(site, answers):
    site.server.route("/pic/7.html", site.html())

    def zoe(exchange):
        page = exchange.hit.path.partition("?p=")[2] or "1"
        shown = {"1": "/full/s_1.jpg", "2": "/full/s_2.jpg"}.get(page)
        (site.html(thumbnails(shown)) if shown else answers.status(404))(exchange)

    site.server.route("/photos/zoe-d-o/", zoe)
    changes = {
        "letters": None,
        "person_links": None,
        "person_url": site.server.url("/photos/{slug}/"),
        "photo": None,
        "next_pages": None,
        "page_url": "{url}?p={page}",
        "min_photos": 0,
        "image_pattern": r"/s_(\d+)\.jpg$",
        "image_url": site.server.url("/full/{1}.jpg"),
    }
    images, lost = site("Zoé d'Ó", "Not There", "Zoe d'O", **changes)
    assert images == ["1", "2"]
    assert {("Not There", "http_status"), ("Zoe d'O", "namesake")} <= {*lost}
    assert "/photos/" not in site.server.paths()
    assert site.targets[1].page_url == site.server.url("/photos/zoe-d-o/?p=2")


def test_the_first_page_under_another_address_does_not_end_a_person(site):
    def pages(exchange):
        page = int(exchange.hit.path.partition("page=")[2] or "1")
        more = links("listalka", ("?page=1", "1"), ("?page=2", "2"), ("?page=3", "3"))
        site.html(description(9) + thumbnails(f"/pic/{page}.html") + more)(exchange)

    site.server.route("/photos/zoe/", pages)
    assert site("Zoé") == (["1", "2", "3"], {})


def test_an_endless_gallery_ends(site):
    def endless(exchange):
        page = int(exchange.hit.path.partition("page=")[2] or "1")
        more = links("listalka", (f"?page={page + 1}", "next"))
        site.html(description(9) + thumbnails(f"/pic/{page}.html") + more)(exchange)

    site.server.route("/photos/zoe/", endless)
    images, lost = site("Zoé", max_pages=3)
    assert images == ["1", "2", "3"]
    assert ("Zoé", "page_depth") in lost


def test_hostile_pages_are_counted_and_the_walk_goes_on(site, answers):
    people = [("/photos/img/", "Img"), ("/photos/out/", "Out"), ("/photos/loop/", "Loop"), ("/photos/none/", "None")]
    odd = [("http://[", "Brackets"), ("javascript:alert(1)", "Script"), ("/photos/x/", " "), ("/photos/cut/", "Cut")]
    site.server.route("/photos/Z.html", site.html(links("models_list", *people, *odd, ("/photos/zoe/", "Zoé"))))
    site.server.route("/photos/img/", answers.ok(jpeg(1)))
    site.server.route("/photos/out/", answers.redirect("http://127.0.0.2/secret"))
    site.server.route("/photos/loop/", answers.redirect("/photos/loop/"))
    site.server.route("/photos/none/", site.html("<p>nothing</p>" + "<div>" * 5000))
    site.server.route("/photos/cut/", answers.reset())
    images, lost = site(all_people=True)
    assert images == ["1", "2", "3", "4", "z1"]
    assert {
        ("Img", "not_a_page"),
        ("Out", "not_public"),
        ("Loop", "redirect_loop"),
        ("None", "nothing_found"),
        ("Script", "not_http"),
        ("", "no_name"),
        ("Cut", "connection"),
    } <= {*lost}
    assert {u.name: u.retry for u in site.unlisted}["Cut"]
    assert not {u.name: u.retry for u in site.unlisted}["Img"]


def test_selectors_that_no_longer_fit_are_told(site):
    assert site("Zoé", letters="div.renamed a")[1] == {
        ("", "nothing_found"): site.server.url("/photos/"),
        ("Zoé", "no_such_person"): site.server.url("/photos/"),
    }
    assert site("Zoé", thumbnails="div.renamed a")[1] == {("Zoé", "nothing_found"): site.server.url("/photos/zoe/")}
    assert [u.rejection.detail for u in site.unlisted] == ["thumbnails"]


def test_a_closed_site_is_asked_nothing(site, answers):
    site.server.route("/robots.txt", answers.status(503))
    images, lost = site("Zoé")
    assert images == []
    assert ("", "robots_unreachable") in lost
    assert {*site.server.paths()} == {"/robots.txt"}
    assert all(u.retry for u in site.unlisted if u.rejection.reason == "robots_unreachable")


def test_a_private_address_is_not_asked(site):
    fetch = dataclasses.replace(site.fetch, own_hosts=())
    assert ("", "not_public") in site("Zoé", fetch=fetch)[1]
    assert site.server.hits == []


def crawl_of(site, tmp_path, **changes):
    (tmp_path / "people.txt").write_text("Ada Lovelace\nZoé\n")
    source = shipped(start_url=site.server.url("/photos/"), licence="as shown", **changes)
    crawl = {
        "contact": "https://example.org/crawl",
        "interval_s": 0,
        "own_hosts": [site.server.host],
        "sources": [source.model_dump(mode="json")],
        "people": {"list": "text", "path": str(tmp_path / "people.txt"), "basis": "public figures"},
    }
    return CrawlRun.model_validate({"output": str(tmp_path / "out"), "crawl": crawl, "shards": {"buckets": 2}})


def harvested(run):
    def nobody(*arguments):
        raise AssertionError("no API is to be asked")

    output = Output(run.output)
    ask = ask_here(run, lambda s, n: None, fetch_settings(run.crawl))
    harvest(run, output, Api(nobody, nobody, nobody, Random(0)), ask, NOW, {})
    stage, tables = CrawlStage(run, output), Tables(output)
    for bucket in range(2):
        stage.run(bucket, stage.fingerprint(bucket), lambda s, n: None)
    people = {e.row.name: e.row for b in range(2) for e in tables.read("people", b, Person)}
    return [e for b in range(2) for e in tables.read("crawl", b, Photo)], people


def test_from_a_gallery_to_rows_in_buckets(site, tmp_path):
    run = crawl_of(site, tmp_path)
    entries, people = harvested(run)
    photos = {e.row.image_url.rpartition("/")[2]: e.row for e in entries}
    assert sorted(photos) == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "z1.jpg"]
    assert all(e.rejection is None for e in entries)
    zoe = photos["z1.jpg"]
    assert (zoe.identity, zoe.licence) == (identity_key("Zoé"), "as shown")
    assert (zoe.page_url, zoe.http_status) == (site.server.url("/pic/z1.html"), 200)
    assert {name: person.basis for name, person in people.items()} == dict.fromkeys(
        ("Ada Lovelace", "Zoé"), "public figures"
    )
    assert "/full/5.jpg" not in site.server.paths(), "what opted out is never fetched"
    asked = len(site.server.hits)
    assert harvested(run)[0] == entries
    assert len(site.server.hits) == asked, "a gallery that was walked is not walked again"


def test_what_may_pass_is_walked_again_and_nobody_else(site, tmp_path, answers, monkeypatch):
    quick = lambda config: dataclasses.replace(fetch_settings(config), backoff_s=0.01)  # noqa: E731
    monkeypatch.setattr("crawl.wanted.fetch_settings", quick)
    whole = harvested(crawl_of(site, tmp_path))[0]
    site.server.route("/photos/zoe/", answers.in_turn(answers.status(403), site.server.routes[None, "/photos/zoe/"]))
    busy = site.server.routes[None, "/pic/4.html"]
    site.server.route("/pic/4.html", answers.in_turn(*[answers.status(503, [("Retry-After", "0")])] * 3, busy))
    run = crawl_of(site, tmp_path).model_copy(update={"output": str(tmp_path / "other")})
    assert len(harvested(run)[0]) == len(whole) - 2
    del site.server.hits[:]
    names = {e.row.image_url.rpartition("/")[2] for e in harvested(run)[0]}
    assert names == {"1.jpg", "2.jpg", "3.jpg", "4.jpg"}, "a 403 is final, a 503 is not"
    assert "/pic/4.html" in site.server.paths()
    assert "/photos/zoe/" not in site.server.paths()
    del site.server.hits[:]
    harvested(run)
    assert site.server.hits == []


def test_a_walk_that_was_killed_goes_on_with_the_same_result(site, tmp_path):
    settings = shipped(start_url=site.server.url("/photos/"))
    people = [Person(identity_key(name), name, "test", "text") for name in ("Ada Lovelace", "Bob", "Zoé")]
    source, journal = GallerySource(settings, site.fetch), str(tmp_path / "journal")
    whole = list(source.find(people))
    cut = source.find(people, journal)
    before = [next(cut) for _ in range(whole.index(next(u for u in whole if u.name == "Bob")) + 1)]
    cut.close()
    with open(journal, "a") as file:
        file.write('{"url": "torn')
    del site.server.hits[:]
    assert before == whole[: len(before)]
    assert list(source.find(people, journal)) == whole
    asked = site.server.paths()
    assert not [path for path in asked if path.startswith(("/photos/ada", "/pic/1"))], "Ada was finished"
    assert "/pic/z1.html" in asked
    assert list(source.find(people, journal)) == whole


def test_a_gallery_without_list_needs_a_word(site, tmp_path):
    run = crawl_of(site, tmp_path)
    run = run.model_copy(update={"crawl": run.crawl.model_copy(update={"people": None})})
    with pytest.raises(InputError, match=r"crawl\.people: source gallery needs a list"):
        harvested(run)
    assert site.server.hits == []


def test_people_of_an_unlisted_gallery_have_its_basis(site, tmp_path):
    run = crawl_of(site, tmp_path, all_people=True, basis="own gallery")
    run = run.model_copy(update={"crawl": run.crawl.model_copy(update={"people": None})})
    _, people = harvested(run)
    assert {(p.name, p.basis, p.source) for p in people.values()} == {
        ("Ada Lovelace", "own gallery", "gallery"),
        ("Zoé", "own gallery", "gallery"),
    }


def test_try_shows_what_each_selector_finds_and_saves_nothing(site, tmp_path):
    url = site.server.url("/photos/ada/")
    given = [f"crawl.start_url={site.server.url('/photos/')}", f"crawl.own_hosts=[{site.server.host}]"]
    given += ["crawl.contact=https://example.org/crawl", f"output={tmp_path}/out"]
    command = [sys.executable, "-m", "crawl", "try", str(SHIPPED), url, *given]
    tried = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = {line.split()[0]: line.split()[1] for line in tried.stdout.splitlines() if not line.startswith(" ")}
    assert lines[f"{url}:"] == "200,"
    assert {key: lines[key] for key in ("letters", "count", "thumbnails", "next_pages", "photo", "list_pages")} == {
        "letters": "0",
        "count": "1",
        "thumbnails": "3",
        "next_pages": "2",
        "photo": "0",
        "list_pages": "-",
    }
    assert "6 photos" in tried.stdout
    assert site.server.url("/pic/2.html") in tried.stdout
    assert site.server.paths() == ["/robots.txt", "/photos/ada/"]
    assert [*tmp_path.iterdir()] == []


def test_try_names_signals_people_and_refusals(site):
    settings = shipped(start_url=site.server.url("/photos/"))
    assert "opt-out signals: meta robots: noai" in [*try_page(settings, site.server.url("/pic/5.html"), site.fetch)]
    shown = "\n".join(try_page(settings, site.server.url("/photos/Z.html"), site.fetch))
    assert f"'Zoé' {site.server.url('/photos/zoe/')}" in shown
    with pytest.raises(InputError, match=r"/private/x: robots_disallowed"):
        [*try_page(settings, site.server.url("/private/x"), site.fetch)]


def test_the_shipped_file_asks_for_what_it_needs():
    with pytest.raises(InputError, match=r"crawl\.start_url: Field required"):
        load(CrawlRun, str(SHIPPED), [])
    with pytest.raises(InputError, match=r"contact"):
        load(CrawlRun, str(SHIPPED), ["crawl.start_url=https://example.org/photos/"])
    run = load(CrawlRun, str(SHIPPED), ["crawl.start_url=https://example.org/photos/", "crawl.contact=me@example.org"])
    (source,) = run.crawl.sources
    assert (source.min_photos, source.max_photos, source.all_people) == (100, 500, False)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"thumbnails": "div..x a"}, "thumbnails.*not a CSS selector"),
        ({"photo": "//img["}, "photo.*not an XPath selector"),
        ({"count_pattern": "("}, "count_pattern.*not a regular expression"),
        ({"person_links": None}, "person_links"),
        ({"count": None}, "min_photos"),
        ({"page_url": "?p={page}"}, "page_url"),
        ({"image_pattern": "x"}, "image_pattern"),
        ({"image_pattern": "(x)", "image_url": "{2}"}, "image_url"),
        ({"hosts": ["http://a.test"]}, "hosts"),
        ({"start_url": "ftp://a.test/"}, "start_url"),
    ],
)
def test_wrong_settings_are_told_by_name(changes, told):
    with pytest.raises(ValueError, match=f"(?s){told}"):
        shipped(**{"start_url": "https://example.org/"} | changes)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1 234 photos", 1234), ("1,234", 1234), ("Ada: 12 photos, 3 albums", 12), ("1\u00a0000", 1000), ("none", None)],
)
def test_counts_as_people_write_them(text, count):
    settings = GallerySettings(
        source="gallery", start_url="http://a.test/", person_links="a", thumbnails="a", count="p", min_photos=1
    )
    page = Page("http://a.test/", "text/html; charset=utf-8", f"<p>{text}</p>".encode())
    assert page.photo_count(settings) == count


def test_pages_speak_their_own_encoding_and_base():
    body = '<base href="http://b.test/x/"><a href="1.html#a">Жанна  Д</a><a href="1.html#b">again</a>'
    settings = shipped(start_url="http://a.test/", person_links="a")
    (first, second) = Page("http://a.test/", "text/html; charset=windows-1251", body.encode("cp1251")).people(settings)
    assert (first.name, first.url, second.url) == ("Жанна Д", "http://b.test/x/1.html", "http://b.test/x/1.html")


def test_names_and_templates():
    assert folded("  ZOE\u0301  Ö ") == folded("zoé ö")
    assert folded("Zoe") != folded("Zoé")
    assert person_url("http://a.test/{slug}/{name}", "Zoé d'Ó") == "http://a.test/zoe-d-o/Zo%C3%A9%20d%27%C3%93"
    settings = shipped(start_url="http://a.test/", image_pattern="(.*)_s(.jpg)", image_url="{1}_l{2}")
    assert image_url(settings, "http://a.test/1_s.jpg") == "http://a.test/1_l.jpg"
    assert image_url(settings, "http://a.test/1.jpg") == "http://a.test/1.jpg"
