"""`croissant.json`: the dataset for machines, as MLCommons' Croissant 1.0 with the fields of its RAI vocabulary.

Formats: docs.mlcommons.org/croissant/docs/croissant-spec.html and …/croissant-rai-spec.html. No clock: the date is
that of the last photo fetched. The shards are archives of the distribution; `mlcroissant` reads pictures and JSON out
of them, and joins pictures with the ledger by key. Knows nothing of how numbers are worked out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from crawl.photo import PHOTO_KEY_LENGTH
from shards.beside.ledger import FILE as LEDGER
from shards.card.facts import Facts
from shards.card.licence_links import link
from shards.card.statements import BIASES, LIMITS, OBEYED, chosen, found, removal
from shards.format.index import FOLDER, ShardRow

CROISSANT = "croissant.json"
_KEY = "?" * PHOTO_KEY_LENGTH
_KEY_PATTERN = f"([0-9a-f]{{{PHOTO_KEY_LENGTH}}})(?:\\..*)?"
"""Also of a bare key: `mlcroissant` 1.1 transforms a joined field twice."""
_LEDGER_COLUMNS = {
    "identity": "identity key of the person shown",
    "licence": "as stated by the source",
    "author": "as stated by the source",
    "attribution": "how the source asks to be credited",
    "page_url": "page it was found on",
    "image_url": "where it was fetched",
    "fetched_at": "UTC, ISO 8601",
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""The context that the specification asks for, and `rai`."""


def croissant_text(facts: Facts, ledger_sha256: str) -> str:
    """The document. `ledger_sha256` is that of `ledger.parquet`, which lies beside it."""
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        **_about(facts),
        **_responsible(facts),
        "distribution": [
            *(_archive(facts, shard) for shard in facts.shards),
            *_members(facts.shards),
            _file(facts, LEDGER, "application/x-parquet", ledger_sha256),
        ],
        "recordSet": [_samples(), _faces(), _metadata()] if facts.shards else [],
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _about(facts: Facts) -> dict[str, Any]:
    publish = facts.run.publish
    licences = [link(licence) or licence for licence, _ in facts.licences]
    about: dict[str, Any] = {
        "name": "".join(c if c.isalnum() else "-" for c in publish.title).strip("-").lower() or "dataset",
        "description": f"{publish.title}: {facts.kept} verified photos of {facts.people} people, in WebDataset shards. "
        f"The licence is each photo's own; {len(facts.licences)} kinds are there, listed under license with the most "
        f"frequent first.",
        "license": licences,
        "version": facts.version,
        "keywords": ["identity", "faces", "webdataset", "personae"],
    }
    if publish.repo:
        about["url"] = f"https://huggingface.co/datasets/{publish.repo}"
    if facts.fetched:
        about["datePublished"] = facts.fetched[1]
    return about


def _responsible(facts: Facts) -> dict[str, Any]:
    """The RAI fields. Personal data is named plainly: faces are biometric data where they identify somebody."""
    timeframe = {"rai:dataCollectionTimeframe": list(facts.fetched)} if facts.fetched else {}
    refused = ", ".join(f"{count} {reason}" for reason, count in facts.opt_outs.items()) or "nothing"
    counts = ", ".join(f"{count} {status}" for status, count in facts.statuses.items())
    return {
        "rai:dataCollection": f"{found(facts)} {OBEYED} Left alone for it: {refused}.",
        "rai:dataCollectionType": ["Web Scraping" if facts.run.crawl.network_sources else "Secondary Data Analysis"],
        **timeframe,
        "rai:dataCollectionMissingData": f"Of {sum(facts.statuses.values())} photos found: {counts}. "
        f"{LEDGER} says of each where it ended and why.",
        "rai:dataPreprocessingProtocol": chosen(facts),
        "rai:dataAnnotationProtocol": [f"Captions by {facts.made_by}; faces and identities by the models listed here."],
        "rai:machineAnnotationTools": [*facts.models],
        "rai:dataBiases": [*BIASES],
        "rai:dataLimitations": [*LIMITS],
        "rai:dataUseCases": ["Training and testing of identity adapters for text-to-image diffusion."],
        "rai:dataSocialImpact": "Identity adapters make pictures of real people. They can deceive and degrade: publish "
        "what is made with them as made, and of nobody who did not agree.",
        "rai:personalSensitiveInformation": [
            "Photos of the faces of real people, grouped by person: biometric data wherever it is used to identify.",
            "Names of the people: published, " + str(facts.run.publish.names_reason)
            if facts.run.publish.names
            else "No names: people are opaque keys.",
            "Embeddings of faces are not part of the dataset.",
        ],
        "rai:dataReleaseMaintenancePlan": removal(facts),
    }


def _archive(facts: Facts, shard: ShardRow) -> dict[str, Any]:
    entry = _file(facts, f"{FOLDER}/{shard.file}", "application/x-tar", shard.sha256)
    return {**entry, "contentSize": f"{shard.num_bytes} B", "description": f"{shard.samples} samples"}


def _file(facts: Facts, name: str, encoding: str, sha256: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "encodingFormat": encoding,
        "sha256": sha256,
    }


def _members(shards: Sequence[ShardRow]) -> list[dict[str, Any]]:
    """Of sets of files in one archive `mlcroissant` 1.1 can join only the last: the images."""
    kinds = [
        ("faces", f"{_KEY}.face.jpg", "image/jpeg", "the reference face crops"),
        ("documents", f"{_KEY}.json", "application/json", "captions, geometry, scores, provenance"),
        ("images", f"{_KEY}.jpg", "image/jpeg", "the square crops"),
    ]
    archives = [{"@id": f"{FOLDER}/{shard.file}"} for shard in shards]
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{kind}-files",
            "name": f"{kind}-files",
            "description": description,
            "containedIn": archives,
            "encodingFormat": encoding,
            "includes": pattern,
        }
        for kind, pattern, encoding, description in kinds
        if archives
    ]


def _samples() -> dict[str, Any]:
    """Crops, each with its row of the ledger."""
    key = _field("samples", "key", "sc:Text", "hexadecimal, opaque", _from_name("images-files"))
    key["references"] = {"fileObject": {"@id": LEDGER}, "extract": {"column": "key"}}
    image = _field("samples", "image", "sc:ImageObject", "the square crop", _content("images-files"))
    columns = [
        _field("samples", name, "sc:Text", text, {"fileObject": {"@id": LEDGER}, "extract": {"column": name}})
        for name, text in _LEDGER_COLUMNS.items()
    ]
    return _record_set("samples", "The square crops, who is shown, and where they came from.", [key, image, *columns])


def _faces() -> dict[str, Any]:
    key = _field("faces", "key", "sc:Text", "of the sample", _from_name("faces-files"))
    image = _field("faces", "image", "sc:ImageObject", "the face", _content("faces-files"))
    return _record_set("faces", "The reference face crops.", [key, image])


def _metadata() -> dict[str, Any]:
    key = _field("documents", "key", "sc:Text", "of the sample", _from_name("documents-files"))
    text = _field("documents", "json", "sc:Text", "one JSON object, docs/data-format.md", _content("documents-files"))
    return _record_set("documents", "Captions, geometry, scores and provenance of each sample, as JSON.", [key, text])


def _record_set(name: str, description: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    key = {"@id": f"{name}/key"}
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "description": description, "key": key, "field": fields,
    }  # fmt: skip


def _field(owner: str, name: str, data_type: str, description: str, source: dict[str, Any]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{owner}/{name}",
        "name": f"{owner}/{name}",
        "description": description,
        "dataType": data_type,
        "source": source,
    }


def _from_name(file_set: str) -> dict[str, Any]:
    """The key, out of a member's name."""
    extract = {"fileProperty": "filename"}
    return {"fileSet": {"@id": file_set}, "extract": extract, "transform": {"regex": _KEY_PATTERN}}


def _content(file_set: str) -> dict[str, Any]:
    return {"fileSet": {"@id": file_set}, "extract": {"fileProperty": "content"}}
