"""Sending a staged copy to the Hugging Face hub: commits of some files each, then a tag. Resumable.

What is there already, by its sha256, is not sent again; of a commit that was cut short the Hub keeps the large files
that had arrived. Index, ledger, card and Croissant go last, so no card promises more than is there. The token is
`HF_TOKEN` or that of `hf auth login`, read by huggingface_hub alone. Knows nothing of what the files mean.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crawl.errors import InputError, one_line

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

KIND = "dataset"
_FIRST = "shards/"
_LAST = "shards/index.json"
_FILES_A_COMMIT = 50
_BYTES_A_COMMIT = 5 * 10**9
_AGAIN = "the same command goes on where this stopped"


@dataclass(frozen=True, slots=True)
class Sent:
    """What an upload did."""

    files: int
    num_bytes: int
    there: int
    """Files that were there already."""
    removed: int
    """Files of an earlier version that are no longer part of it."""
    commits: int
    url: str


def default_api() -> HfApi:
    """Raises InputError when huggingface_hub is not installed."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise InputError(f"{one_line(error)}: pip install 'personae[publish]'") from None
    return HfApi()


def send(
    folder: Path,
    files: Mapping[str, int],
    repo: str,
    tag: str,
    api: HfApi,
    *,
    private: bool = False,
    revision: str = "main",
    say: Callable[[str], None] = print,
    files_a_commit: int = _FILES_A_COMMIT,
) -> Sent:
    """Bring the repository's branch to exactly these files (path → bytes), and tag it.

    Files of others in the repository stay. Raises InputError, one line that names what is wrong.
    """
    with _in_one_line(repo):
        api.whoami()
        url = api.create_repo(repo, repo_type=KIND, private=private or None, exist_ok=True)
        if revision != "main":
            api.create_branch(repo, branch=revision, repo_type=KIND, exist_ok=True)
        there = _tree(api, repo, revision)
        todo = [path for path in files if not _same(folder / path, there.get(path))]
        stale = [path for path in there if path.startswith(_FIRST) and path not in files]
        tagged = _tagged(api, repo, tag)
        if tagged is not None and (todo or stale or tagged != _head(api, repo, revision)):
            raise InputError(
                f"{repo}: {tag} is there already, with other content: raise publish.version, or delete the tag"
            )
        commits = 0
        for chunk in _chunks(todo, files, files_a_commit):
            _commit(api, repo, revision, folder, chunk, [], tag)
            commits += 1
            say(f"sent {', '.join(chunk[:3])}{f' and {len(chunk) - 3} more' if len(chunk) > 3 else ''}")
        last = [path for path in todo if not _is_tar(path)]
        if last or stale:
            _commit(api, repo, revision, folder, last, stale, tag)
            commits += 1
        if tagged is None:
            api.create_tag(repo, tag=tag, revision=_head(api, repo, revision), repo_type=KIND)
    sent = sum(files[path] for path in todo)
    return Sent(len(todo), sent, len(files) - len(todo), len(stale), commits, str(url))


def _tree(api: HfApi, repo: str, revision: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repo, repo_type=KIND, revision=revision, recursive=True)
    return {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}


def _same(path: Path, there: RepoFile | None) -> bool:
    """By what the Hub knows a file by: a large one's sha256, a small one's name in git."""
    if there is None or there.size != path.stat().st_size:
        return False
    with open(path, "rb") as file:
        if there.lfs is not None:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == there.lfs.sha256)
        content = file.read()
    return bool(hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest() == there.blob_id)


def _tagged(api: HfApi, repo: str, tag: str) -> str | None:
    """The commit under a tag."""
    tags = api.list_repo_refs(repo, repo_type=KIND).tags
    return next((ref.target_commit for ref in tags if ref.name == tag), None)


def _head(api: HfApi, repo: str, revision: str) -> str:
    return str(api.dataset_info(repo, revision=revision).sha)


def _is_tar(path: str) -> bool:
    return path.startswith(_FIRST) and path != _LAST


def _chunks(todo: Iterable[str], files: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """The tars, some at a time."""
    chunk: list[str] = []
    for path in filter(_is_tar, todo):
        if chunk and (len(chunk) == most or sum(files[p] for p in chunk) + files[path] > _BYTES_A_COMMIT):
            yield chunk
            chunk = []
        chunk.append(path)
    if chunk:
        yield chunk


def _commit(
    api: HfApi, repo: str, revision: str, folder: Path, paths: list[str], stale: list[str], version: str
) -> None:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    operations: list[Any] = [CommitOperationAdd(path, folder / path) for path in paths]
    operations += [CommitOperationDelete(path) for path in stale]
    message = f"{version}: {len(paths)} files" + (f", {len(stale)} removed" if stale else "")
    api.create_commit(repo, operations, commit_message=message, repo_type=KIND, revision=revision)


@contextlib.contextmanager
def _in_one_line(repo: str) -> Iterator[None]:
    """What the Hub or the network answers, as one line for a person; never an address with a signature in it."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

    try:
        yield
    except InputError:
        raise
    except LocalTokenNotFoundError:
        raise InputError("no token: set HF_TOKEN, or log in once with `hf auth login`") from None
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        if isinstance(cause, HfHubHTTPError):
            raise InputError(f"{repo}: {_answer(cause)}") from None
        told = one_line(cause) if isinstance(cause, OSError | ValueError) else f"{type(cause).__name__}: {cause}"
        raise InputError(f"{repo}: the upload stopped: {told[:300]}; {_AGAIN}") from None


def _answer(error: Any) -> str:
    status = error.response.status_code
    known = {
        401: "the Hub does not accept this token (HF_TOKEN, or `hf auth login`)",
        403: "this token may not write there",
        404: "no such dataset there, or none that this token may see",
        409: "the Hub says that somebody else is changing it",
    }
    said = " ".join((error.server_message or "").split())[:200]
    return (
        known.get(status, f"the Hub answered {status}")
        + (f" ({said})" if said else "")
        + ("" if status in (401, 403, 404) else f"; {_AGAIN}")
    )
