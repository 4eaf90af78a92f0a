"""The benchmarks run: on a GPU machine nobody has time for a typing error."""

import re

import pytest


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu_with_a_tiny_model(capsys):
    pytest.importorskip("transformers")
    from benchmarks.captions import speed

    speed("tiny", [1, 2], 16)
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) \| (\d+) \| ([\d.]+)% \| no GPU \|$", capsys.readouterr().out, re.M)
    assert [row[0] for row in rows] == ["1", "2"]
    assert all(float(row[1]) > 0 and 0 < float(row[3]) <= 100 for row in rows)


def test_the_stage_costs_little_beside_its_model(capsys):
    """CPU time, which other work on the machine does not change; the wall clock's share is the benchmark's to print."""
    from benchmarks.captions import _Fixed, _row

    cells = [cell.strip() for cell in _row("single", 8, 24, "fixed", _Fixed(0.002).into).split("|")]
    assert cells[1:4] == ["single", "8", "24"]
    assert float(cells[7]) < 5.0, "ms of CPU a portrait; a large model takes some 100"


def test_the_published_size_is_the_published_size():
    """3.75 billion parameters, as the checkpoint's index says; counted without making them."""
    torch = pytest.importorskip("torch")
    from transformers import Qwen2_5_VLForConditionalGeneration

    from benchmarks.random_qwen import config_of, processor_with

    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config_of("3b", processor_with().tokenizer))
    model.tie_weights()
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(3.75e9, rel=0.01)
