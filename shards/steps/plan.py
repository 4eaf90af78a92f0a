"""The build's work on Ray Data: a row is the name of a piece of work, such as a bucket's number.

What flows through Ray is names and counts; photos and rows live in the store and in tables. Any order, any
parallelism and any number of retries therefore give the same bytes. Knows nothing of what the work is.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from crawl.errors import InputError, Paused, one_line
from crawl.stage import Tick
from shards.config import EngineConfig

Item = int | str
Work = Callable[[Any, Tick], None]
"""Does one item; makes of it what it makes whole, or not at all."""
_OBJECT_STORE_BYTES = 200 * 2**20
_POLL_S = 0.5
_ANSWER_S = 10.0


class WorkerError(RuntimeError):
    """A fault of ours inside a worker, with the worker's own traceback."""


@contextmanager
def cluster(engine: EngineConfig) -> Iterator[int]:
    """Start a local Ray, or connect to the named cluster; yields how many workers to run.

    Raises InputError for a remote address without token authentication, and for one at which nothing answers.
    """
    address = engine.address or os.environ.get("RAY_ADDRESS")
    refuse_open_cluster(engine, address, os.environ)
    if address:
        must_answer(address)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # its warnings are for Ray's developers, on our stderr
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            cpus = engine.cpus or os.cpu_count() or 1
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InputError(f"engine.address: {address or 'local'}: {one_line(error)}") from error
    try:
        yield min(engine.cpus or 10**6, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


def refuse_open_cluster(engine: EngineConfig, address: str | None, environment: Mapping[str, str]) -> None:
    """Ray lets any client run any code: a cluster reached over the network must ask for a token."""
    local = address in (None, "auto", "local") or str(address).split("://")[-1].startswith(("127.", "localhost"))
    in_a_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in environment
    if not (local or in_a_job or engine.allow_open_cluster or environment.get("RAY_AUTH_MODE") == "token"):
        raise InputError(
            f"engine.address: {address}: refused without token authentication: set RAY_AUTH_MODE=token "
            "(see docs/operations.md), or engine.allow_open_cluster=true on a network you trust"
        )


def must_answer(address: str, timeout_s: float = _ANSWER_S) -> None:
    """Raises InputError where nothing listens at `host:port`: Ray itself would ask for a quarter of an hour."""
    host, colon, port = address.split("://")[-1].rpartition(":")
    if not (colon and port.isdigit()):
        return  # "auto" and "local": Ray knows at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"engine.address: {address}: nothing answers ({one_line(error)})") from None


Gpus = Callable[[float], float]
"""GPUs in the cluster → GPUs a worker takes. May raise InputError."""


def no_gpus(there: float) -> float:
    return 0.0


def run_on_ray(
    start: Callable[[], Work],
    items: Sequence[Item],
    engine: EngineConfig,
    workers: int,
    tick: Tick,
    gpus: Gpus = no_gpus,
) -> None:
    """Do these items on at most `workers` actors, each of which calls `start` once, in its own process.

    Raises InputError as the worker met it, also for its OSErrors; WorkerError for anything unexpected. After a Paused
    no item is begun, but those in work are ended before it is raised.
    """
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    tasks = -(-len(items) // engine.buckets_per_task)
    progress = ray.remote(num_cpus=0)(_Progress).remote()
    rows = ray.data.from_items([{"item": item} for item in items], override_num_blocks=tasks)
    there = float(ray.cluster_resources().get("GPU", 0))
    each = gpus(there)
    actors = min(workers, tasks, int(there / each)) if each else min(workers, tasks)
    finished = _mapped(rows, (start, progress), actors, engine, each).iter_rows()
    with _polling(progress, tick):
        try:
            pauses = [row["message"] for row in finished if _is_pause(row)]
        except RayError as error:
            raise WorkerError(
                f"a worker died more than engine.worker_deaths={engine.worker_deaths} times over one task: "
                f"run the same command again to go on ({type(error).__name__}: {one_line(error)[:300]})"
            ) from None
    if pauses:
        raise Paused(pauses[0])


def _mapped(rows: Any, arguments: tuple[Any, ...], actors: int, engine: EngineConfig, gpus: float) -> Any:
    """Ray's own default is to restart for ever: a photo that kills its worker would never end.

    Ray 2.60 deprecates these two without naming what takes their place.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ray_remote_args.* is deprecated")
        return rows.map_batches(
            _Worker,
            fn_constructor_args=arguments,
            batch_size=engine.buckets_per_task if gpus else None,  # Ray wants a number with GPUs; a block has so many
            num_cpus=1,
            num_gpus=gpus or None,
            compute=ActorPoolStrategy(size=max(1, actors)),
            max_restarts=engine.worker_deaths,
            max_task_retries=engine.worker_deaths,
        )


class _Progress:
    """What the workers have done since the driver last asked, and whether they are to begin anything more."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._paused = False

    def pause(self) -> None:
        self._paused = True

    def paused(self) -> bool:
        return self._paused

    def add(self, stage: str, photos: int) -> None:
        self._counts[stage] = self._counts.get(stage, 0) + photos

    def take(self) -> dict[str, int]:
        counts, self._counts = self._counts, {}
        return counts


class _Worker:
    """Lives in its own process; what the work needs, such as models, is made once."""

    def __init__(self, start: Callable[[], Work], progress: Any) -> None:
        self._work = functools.cache(start)
        self._progress = progress

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outcomes = [self._run(item) for item in batch["item"].tolist()]
        return {
            "item": batch["item"],
            "kind": np.array([kind for kind, _ in outcomes], dtype=object),
            "message": np.array([message for _, message in outcomes], dtype=object),
        }

    def _run(self, item: Item) -> tuple[str, str]:
        """Errors come back as rows: an exception through Ray Data would lose its one line."""
        if ray.get(self._progress.paused.remote()):
            return "left", ""
        try:
            self._work()(item, self._tick)
        except Paused as error:
            ray.get(self._progress.pause.remote())
            return "pause", one_line(error)
        except (InputError, OSError) as error:
            return "input", one_line(error)
        except Exception:
            return "fault", f"{item}:\n{traceback.format_exc()}"
        return "done", ""

    def _tick(self, stage: str, photos: int) -> None:
        self._progress.add.remote(stage, photos)


def _is_pause(row: dict[str, Any]) -> bool:
    """Raises what is to be raised at once."""
    if row["kind"] == "input":
        raise InputError(row["message"])
    if row["kind"] == "fault":
        raise WorkerError(row["message"])
    return bool(row["kind"] == "pause")


@contextmanager
def _polling(progress: Any, tick: Tick) -> Iterator[None]:
    stop = threading.Event()

    def take() -> None:
        for stage, photos in ray.get(progress.take.remote()).items():
            tick(stage, photos)

    def poll() -> None:
        while not stop.wait(_POLL_S):
            take()

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        take()
