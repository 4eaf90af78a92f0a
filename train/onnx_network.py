"""An ONNX network as a torch module that gradients pass through: what face recognisers are made of, nothing else.

Weights are frozen buffers. Knows no face: reads the graph, one operation after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from crawl.errors import InputError, one_line

Attributes = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Node:
    operation: str
    inputs: tuple[str, ...]
    output: str
    attributes: Attributes


class OnnxNetwork(nn.Module):
    """One input [B, …], one output [B, …]. Raises InputError for no such file, and for operations unknown here."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        import onnx
        from google.protobuf.message import DecodeError
        from onnx import numpy_helper

        try:
            graph = onnx.load(str(path)).graph
        except (OSError, DecodeError) as error:
            raise InputError(f"{path}: not an ONNX file: {one_line(error)[:200]}") from None
        tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._nodes: list[_Node] = []
        for node in graph.node:
            attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            if node.op_type == "Constant":
                tensors[node.output[0]] = numpy_helper.to_array(attributes["value"])
            elif node.op_type not in OPERATIONS:
                raise InputError(f"{path}: operation {node.op_type} is not known here")
            else:
                self._nodes.append(_Node(node.op_type, tuple(node.input), node.output[0], attributes))
        self._names = {name: f"weight_{number}" for number, name in enumerate(tensors)}
        for name, array in tensors.items():
            self.register_buffer(self._names[name], torch.from_numpy(array.copy()))
        self.input = next(one.name for one in graph.input if one.name not in tensors)
        self.operations = [node.operation for node in self._nodes]

    def forward(self, pictures: Tensor) -> Tensor:
        values = {self.input: pictures} | {name: self.get_buffer(own) for name, own in self._names.items()}
        for node in self._nodes:
            inputs = [values[name] if name else None for name in node.inputs]
            values[node.output] = OPERATIONS[node.operation](inputs, node.attributes)
        return values[self._nodes[-1].output]


def _conv(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    picture, weight, bias = (*inputs, None)[:3]
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    padded = functional.pad(picture, (left, right, top, bottom))
    strides, dilations = (tuple(attributes.get(name, (1, 1))) for name in ("strides", "dilations"))
    return functional.conv2d(padded, weight, bias, strides, 0, dilations, attributes.get("group", 1))


def _batch_norm(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    picture, scale, bias, mean, variance = inputs
    return functional.batch_norm(picture, mean, variance, scale, bias, eps=attributes.get("epsilon", 1e-5))


def _gemm(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    one, other, bias = (*inputs, None)[:3]
    one = one.T if attributes.get("transA") else one
    product = attributes.get("alpha", 1.0) * (one @ (other.T if attributes.get("transB") else other))
    return product if bias is None else product + attributes.get("beta", 1.0) * bias


def _prelu(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    picture, slope = inputs
    return torch.where(picture >= 0, picture, picture * slope)


def _reshape(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    """The file's batch of one, or of any number: the first axis stays what it is."""
    picture, shape = inputs
    return picture.reshape(len(picture), *shape.tolist()[1:])


def _clip(inputs: Sequence[Any], attributes: Attributes) -> Tensor:
    picture, least, most = (*inputs, None, None)[:3]
    return torch.clamp(picture, least, most)


OPERATIONS: dict[str, Callable[[Sequence[Any], Attributes], Tensor]] = {
    "Add": lambda inputs, _: inputs[0] + inputs[1],
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "Flatten": lambda inputs, attributes: inputs[0].flatten(attributes.get("axis", 1)),
    "Gemm": _gemm,
    "Identity": lambda inputs, _: inputs[0],
    "Mul": lambda inputs, _: inputs[0] * inputs[1],
    "PRelu": _prelu,
    "Relu": lambda inputs, _: inputs[0].relu(),
    "Reshape": _reshape,
    "Sub": lambda inputs, _: inputs[0] - inputs[1],
}
"""Name → (inputs, attributes) → output, as https://onnx.ai/onnx/operators says, for inference."""
