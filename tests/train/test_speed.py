"""FLOPs are counted, not guessed; a card's peak is found by its name."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from train.speed import flops_of, peak_flops, peak_memory_mb


def test_a_linear_layer_costs_what_the_textbook_says():
    layer, x = nn.Linear(64, 32, bias=False), torch.randn(8, 64, requires_grad=True)
    assert flops_of(lambda: layer(x)) == 2 * 8 * 64 * 32
    assert flops_of(lambda: layer(x).sum().backward()) == 3 * 2 * 8 * 64 * 32


def test_attention_is_counted_on_the_cpu_too():
    q, k, v = (torch.randn(2, 4, n, 16, requires_grad=True) for n in (32, 8, 8))
    forward = 2 * (2 * 2 * 4 * 32 * 8 * 16)
    assert flops_of(lambda: functional.scaled_dot_product_attention(q, k, v)) == forward
    both = flops_of(lambda: functional.scaled_dot_product_attention(q, k, v).sum().backward())
    assert both == pytest.approx(3.5 * forward)


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA L4", 121),
     ("NVIDIA L40S", 362), ("NVIDIA A10G", 125), ("A card of tomorrow", None)],
)  # fmt: skip
def test_the_peak_of_a_card(monkeypatch, name, tflops):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    peak = peak_flops(torch.device("cuda", 0), "bf16")
    assert peak == (None if tflops is None else tflops * 1e12)


def test_a_cpu_has_no_peak_and_some_memory():
    assert peak_flops(torch.device("cpu"), "fp32") is None
    assert 50 < peak_memory_mb(torch.device("cpu")) < 100_000
