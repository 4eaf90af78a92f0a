"""What the network sources of a run file list: people, and the targets of each. Listed once, then remembered.

A list is made again when its settings, or the people it was made for, change; who could not be listed, for a reason
that may pass, is asked for again by the next run. Fetches no photo.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from crawl.config import CrawlConfig, NetworkSettings, fetch_settings
from crawl.errors import InputError
from crawl.fetching.api import Api
from crawl.fetching.target import Target
from crawl.output import Output
from crawl.people.config import WikidataPeople
from crawl.people.lists import list_people
from crawl.people.person import Person
from crawl.photo import Rejection, identity_key
from crawl.source_config import (
    CommonsSettings,
    GallerySettings,
    OpenverseSettings,
    SearchSettings,
    UrlsSettings,
)
from crawl.sources.commons import CommonsSource
from crawl.sources.gallery import GallerySource
from crawl.sources.listing import Unlisted
from crawl.sources.openverse import OpenverseSource
from crawl.sources.search import SearchSource
from crawl.sources.urls import UrlsSource
from crawl.tables import Entry, Tables, fingerprint, table_numbers
from crawl.tombstones import REMOVED, TAKEN_DOWN, Tombstones, read_tombstones

ApiSettings = CommonsSettings | OpenverseSettings | SearchSettings
ApiSource = CommonsSource | OpenverseSource | SearchSource
VERSION = 1
TARGETS = "targets"
LISTED = "listed-people"


@dataclass(frozen=True, slots=True)
class Listed:
    """A target of a source, or what it saw and could not use."""

    target: Target | None
    unlisted: Unlisted | None


def wanted_people(config: CrawlConfig, output: Output, api: Api, today: date) -> list[Person]:
    """Whom `crawl.people` lists; [] when the run file names no list. A Wikidata query is asked once."""
    if config.people is None:
        return []
    tables = Tables(output)
    stamp = fingerprint(LISTED, VERSION, config.people.model_dump(mode="json"))
    if not isinstance(config.people, WikidataPeople) or tables.fingerprint(LISTED, 0) != stamp:
        people, tombstones = list_people(config.people, today, api).listed, read_tombstones(output)
        tables.write(
            LISTED, 0, Person, (Entry(p.identity, p) for p in people if not tombstones.person(p.identity)), stamp
        )
    return listed_people(output)


def listed_people(output: Output) -> list[Person]:
    """Whom the last run looked for."""
    return [e.row for e in Tables(output).read(LISTED, 0, Person) if e.row is not None]


def targets_stamp(settings: NetworkSettings, people: Sequence[Person]) -> str:
    """Of all that a source's table depends on. Raises InputError for a file of URLs that is not there."""
    asks = [[p.identity, p.qid] for p in people] if not isinstance(settings, UrlsSettings) else _file_state(settings)
    return fingerprint(TARGETS, VERSION, settings.model_dump(mode="json"), asks)


def obeying(listed: Listed, tombstones: Tombstones) -> Listed:
    """What was taken down is only counted: as its person's while that one is in the dataset, else as nobody's."""
    target, unlisted = listed.target, listed.unlisted
    if target is not None:
        name, addresses, said = target.name, (target.image_url, target.page_url), REMOVED
    else:
        assert unlisted is not None, "a row is one of the two"
        name, addresses = unlisted.name, (unlisted.where, unlisted.rejection.detail)
        said = Rejection("crawl", unlisted.rejection.reason)
    forgotten = tombstones.name(name)
    if not forgotten and not tombstones.address(*addresses):
        return listed
    return Listed(None, Unlisted("" if forgotten else name, "", said))


def removed_names(output: Output) -> Counter[str]:
    """Of the listed photos that were taken down: person, or "", → how many."""
    tables, names = Tables(output), Counter[str]()
    for number in table_numbers(output, TARGETS):
        for entry in tables.read(TARGETS, number, Listed):
            unlisted = entry.row.unlisted if entry.row is not None else None
            if unlisted is not None and unlisted.rejection.reason == TAKEN_DOWN:
                names[unlisted.name] += 1
    return names


def wanted_targets(
    config: CrawlConfig, output: Output, api: Api, people: Sequence[Person], environment: Mapping[str, str]
) -> Iterator[Listed]:
    """All that the network sources list, source by source; each asked only for what its table lacks."""
    tables, tombstones = Tables(output), read_tombstones(output)
    for number, settings in enumerate(config.network_sources):
        stamp = targets_stamp(settings, people)
        if isinstance(settings, GallerySettings):
            _walk_gallery(number, stamp, GallerySource(settings, fetch_settings(config)), output, people)
        elif tables.fingerprint(TARGETS, number) != stamp:
            found = _find(settings, api, people, environment)
            tables.write(TARGETS, number, Listed, _listed(found, tombstones), stamp)
        elif not isinstance(settings, UrlsSettings) and (failed := _failed(tables, number)):
            again = _found_again(_source(settings, api, environment), tables, number, people, failed)
            tables.write(TARGETS, number, Listed, _listed(again, tombstones), stamp)
        yield from (e.row for e in tables.read(TARGETS, number, Listed) if e.row is not None)


def people_of_targets(config: CrawlConfig, people: Iterable[Person], targets: Iterable[Target]) -> dict[str, Person]:
    """identity → person: those of the list, and those whom only URLs or a gallery name, with that source's basis."""
    known = {person.identity: person for person in people}
    naming = [s for s in config.network_sources if isinstance(s, UrlsSettings | GallerySettings)]
    basis, source = (naming[0].basis, naming[0].source) if naming else ("", "urls")
    for target in targets:
        identity = identity_key(target.name)
        if identity not in known:
            known[identity] = Person(identity, target.name, basis, source)
    return known


def _find(
    settings: ApiSettings | UrlsSettings, api: Api, people: Sequence[Person], environment: Mapping[str, str]
) -> Iterator[Target | Unlisted]:
    if isinstance(settings, UrlsSettings):
        yield from UrlsSource(settings).find()
        return
    if not people:
        raise InputError(f"crawl.people: source {settings.source} needs a list of people to look for")
    source = _source(settings, api, environment)
    for person in people:
        yield from source.find(person)


def _failed(tables: Tables, number: int) -> set[str]:
    """Names of those for whom a source stopped answering, and may answer now."""
    listed = (e.row.unlisted for e in tables.read(TARGETS, number, Listed) if e.row is not None)
    return {unlisted.name for unlisted in listed if unlisted is not None and unlisted.retry}


def _found_again(
    source: ApiSource, tables: Tables, number: int, people: Sequence[Person], failed: Collection[str]
) -> Iterator[Target | Unlisted]:
    """What is listed, with the failed people asked for again; who fails once more keeps the longer list."""
    before: dict[str, list[Target | Unlisted]] = defaultdict(list)
    for entry in tables.read(TARGETS, number, Listed):
        if entry.row is not None:
            item = entry.row.target or entry.row.unlisted
            assert item is not None, "a row is one of the two"
            before[item.name].append(item)
    for person in people:
        known = before[person.name]
        again = list(source.find(person)) if person.name in failed else known
        yield from known if _is_cut_short(again) and len(known) > len(again) else again


def _is_cut_short(found: Iterable[Target | Unlisted]) -> bool:
    return any(isinstance(item, Unlisted) and item.retry for item in found)


def _walk_gallery(number: int, stamp: str, source: GallerySource, output: Output, people: Sequence[Person]) -> None:
    """Walk, unless it has been done and nothing is left that may pass.

    A walk can take days: what one has finished, the next one, after a kill or a bad day, does not ask for again.
    """
    if not people and not source.all_people:
        raise InputError("crawl.people: source gallery needs a list of people to look for")
    tables, unfinished = Tables(output), f"tables/{TARGETS}/{number:05d}.unfinished"
    if tables.fingerprint(TARGETS, number) == stamp and not output.exists(unfinished):
        return
    output.write(unfinished, b"")
    journal = output.path(f"tables/{TARGETS}/{stamp[:16]}.journal") if output.is_local else None
    tables.write(TARGETS, number, Listed, _listed(source.find(people, journal), read_tombstones(output)), stamp)
    if not any(e.row.unlisted.retry for e in tables.read(TARGETS, number, Listed) if e.row and e.row.unlisted):
        output.remove(unfinished)
        if journal is not None:
            os.unlink(journal)


def _source(settings: ApiSettings, api: Api, environment: Mapping[str, str]) -> ApiSource:
    if isinstance(settings, CommonsSettings):
        return CommonsSource(settings, api)
    if isinstance(settings, OpenverseSettings):
        return OpenverseSource(settings, api, environment)
    return SearchSource(settings, api, environment)


def _listed(found: Iterable[Target | Unlisted], tombstones: Tombstones) -> Iterator[Entry[Listed]]:
    for number, item in enumerate(found):
        target = item if isinstance(item, Target) else None
        listed = Listed(target, None if target else item)  # type: ignore[arg-type]
        yield Entry(f"{number:012d}", obeying(listed, tombstones))


def _file_state(settings: UrlsSettings) -> list[object]:
    try:
        stat = os.stat(settings.path)
    except OSError as error:
        raise InputError(f"crawl.path: {settings.path}: {error.strerror}") from None
    return [stat.st_size, stat.st_mtime_ns]
