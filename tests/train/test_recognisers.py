"""Recognisers in torch say what the same ONNX files say in their own runtime; gradients pass through them."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from crawl.errors import InputError
from filter.align import aligned
from shards.encoders.config import BaseConfig
from train.onnx_network import OnnxNetwork
from train.recognisers import load_recogniser


def draw(*shape, seed=0):
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def written(path, nodes, weights, shape=(1, 3, 9, 9)):
    """An ONNX file of these nodes, from `x` to `y`."""
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    gives = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "net", [given], [gives], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def insightface_like(path):
    """Every operation of ArcFace's ResNets and MobileNets, with strides, groups and uneven padding."""
    weights = {
        "mean": np.float32(0.5).reshape(1), "factor": np.float32(2).reshape(1),
        "w": draw(4, 3, 3, 3, seed=1), "slope": np.abs(draw(4, 1, 1, seed=2)), "g": draw(4, seed=3),
        "b": draw(4, seed=4),
        "m": draw(4, seed=5), "v": np.abs(draw(4, seed=6)) + 0.5, "dw": draw(4, 1, 3, 3, seed=7), "db": draw(4, seed=8),
        "fc": draw(6, 4 * 25, seed=9), "fb": draw(6, seed=10), "least": np.float32(-1), "most": np.float32(2),
        "shape": np.array([1, -1], np.int64),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Sub", ["x", "mean"], ["a"]), node("Mul", ["a", "factor"], ["b0"]),
        node("Conv", ["b0", "w"], ["c"], strides=[2, 2], pads=[1, 0, 1, 2], kernel_shape=[3, 3]),
        node("BatchNormalization", ["c", "g", "b", "m", "v"], ["d"], epsilon=2e-5),
        node("PRelu", ["d", "slope"], ["e"]),
        node("Conv", ["e", "dw", "db"], ["f"], group=4, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Clip", ["f", "least", "most"], ["h"]), node("Add", ["h", "e"], ["i"]), node("Relu", ["i"], ["j"]),
        node("Identity", ["j"], ["k"]), node("Flatten", ["k"], ["l"]),
        node("Gemm", ["l", "fc", "fb"], ["n"], transB=1, alpha=0.5), node("Reshape", ["n", "shape"], ["y"]),
    ]  # fmt: skip
    return written(path, nodes, weights)


@torch.no_grad()
def test_every_operation_is_the_runtimes(tmp_path):
    path = insightface_like(tmp_path / "net.onnx")
    pictures = draw(3, 3, 9, 9, seed=11)
    session = onnxruntime.InferenceSession(str(path))
    theirs = np.concatenate([session.run(None, {"x": picture[None]})[0] for picture in pictures])
    ours = OnnxNetwork(path)(torch.from_numpy(pictures))
    assert ours.shape == (3, 6)
    assert np.abs(ours.numpy() - theirs).max() < 1e-4


def test_what_is_no_such_network_is_one_line(tmp_path):
    strange = written(tmp_path / "strange.onnx", [helper.make_node("Erf", ["x"], ["y"])], {})
    with pytest.raises(InputError, match=r"strange.onnx: operation Erf is not known here$"):
        OnnxNetwork(strange)
    (tmp_path / "torn.onnx").write_bytes(b"\xff" * 30)
    for name in ("torn.onnx", "absent.onnx"):
        with pytest.raises(InputError, match=f"{name}: not an ONNX file: "):
            OnnxNetwork(tmp_path / name)
    with pytest.raises(InputError, match=r"^base.face: embedded: gradients cannot pass through it: take open or"):
        load_recogniser("embedded", BaseConfig())


def test_mobilefacenet_in_torch_is_the_embedder_of_the_filter(shared, monkeypatch):
    from filter.backends.open import MobileFaceNetEmbedder
    from filter.faces import Face

    monkeypatch.setenv("PERSONAE_CACHE", str(shared / "models"))
    recogniser = load_recogniser("open", BaseConfig())
    points = ((70.0, 80.0), (118.0, 74.0), (97.0, 105.0), (80.0, 133.0), (116.0, 128.0))
    embedder = MobileFaceNetEmbedder(shared / "models" / "mobilefacenet_arcface.onnx")
    pictures = [np.random.RandomState(seed).randint(0, 256, (200, 180, 3), np.uint8) for seed in range(3)]
    theirs = np.stack([embedder.embed(one, [Face((60, 60, 130, 140), points, 1.0)])[0] for one in pictures])
    crops = torch.stack([torch.from_numpy(aligned(one, points).copy()) for one in pictures]).permute(0, 3, 1, 2) / 255
    crops.requires_grad_()
    ours = recogniser(crops)
    assert np.abs(ours.detach().numpy() - theirs).max() < 1e-4
    ours[:, 0].sum().backward()
    assert crops.grad.abs().amax((1, 2, 3)).min() > 0
    assert list(recogniser.parameters()) == []
    assert not any(buffer.requires_grad for buffer in recogniser.buffers())
