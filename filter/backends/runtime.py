"""onnxruntime as a build wants it: one thread on the CPU, so that results repeat and a core runs a process.

Knows no model.
"""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as states

from crawl.errors import InputError

PROVIDERS = ["CPUExecutionProvider"]
BROKEN_FILE = (states.Fail, states.InvalidGraph, states.InvalidProtobuf)
"""What onnxruntime raises for a file that is no ONNX model."""


def one_thread() -> onnxruntime.SessionOptions:
    """Options of every session: sums in a fixed order, warnings of exported graphs not shown."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def session(weights: Path) -> onnxruntime.InferenceSession:
    """The model of one ONNX file. Raises InputError for a broken one."""
    try:
        return onnxruntime.InferenceSession(str(weights), one_thread(), providers=PROVIDERS)
    except BROKEN_FILE as error:
        raise InputError(f"{weights}: not a whole ONNX file: {' '.join(str(error).split())[:200]}") from None
