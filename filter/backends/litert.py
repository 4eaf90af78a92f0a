"""LiteRT (TensorFlow Lite) as a build wants it: one thread on the CPU, so that results repeat.

Knows no model.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from crawl.errors import InputError
from filter.faces import Image

Floats = npt.NDArray[np.float32]


class Network:
    """A tflite file with one float input, [1, height, width, 3], and those of its outputs that are of use."""

    def __init__(self, weights: Path, outputs: tuple[int, ...]) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ModuleNotFoundError as error:
            raise InputError(
                f"filter.pose: package {error.name} is not installed: pip install 'personae[pose]'"
            ) from None
        self._interpreter = Interpreter(str(weights), num_threads=1)
        with _without_notes():
            self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        details = self._interpreter.get_output_details()
        self._outputs = [details[number]["index"] for number in outputs]

    def run(self, pixels: Image, low: float, high: float) -> list[Floats]:
        """The outputs of use, without the batch dimension, for 8-bit pixels scaled to `low` … `high`.

        They are views into the network: to be forgotten before it runs again.
        """
        given = self._interpreter.tensor(self._input)()[0]
        np.multiply(pixels, np.float32((high - low) / 255), out=given)
        given += np.float32(low)
        del given  # the network refuses to run while somebody holds a view
        self._interpreter.invoke()
        return [self._interpreter.tensor(index)()[0] for index in self._outputs]


@contextlib.contextmanager
def _without_notes() -> Iterator[None]:
    """The library tells every user, on file descriptor 2, which delegate it made, and has no setting against it."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
