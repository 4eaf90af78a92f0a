"""Published weight files: both kinds read alike; what is wrong with one is a line naming file and key."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from crawl.errors import InputError
from train.adapters.published import load_into, part, read_weights


def test_both_kinds_of_file_give_the_same_flat_keys(tmp_path):
    proj, layers = {"proj.weight": torch.ones(2, 3)}, {"1.to_k_ip.weight": torch.zeros(4)}
    torch.save({"image_proj": proj, "ip_adapter": layers}, tmp_path / "a.bin")
    flat = {"image_proj.proj.weight": torch.ones(2, 3), "ip_adapter.1.to_k_ip.weight": torch.zeros(4)}
    save_file(flat, tmp_path / "a.safetensors")
    for name in ("a.bin", "a.safetensors"):
        state = read_weights(str(tmp_path / name))
        assert list(state) == list(flat)
        assert all(torch.equal(state[key], flat[key]) for key in flat)
    assert list(part(flat, "image_proj.")) == ["proj.weight"]


class Evil:
    def __reduce__(self):
        return pytest.fail, ("code in a weights file ran",)


def test_files_that_are_no_weights_are_one_line_and_run_nothing(tmp_path):
    torch.save({"a": Evil()}, tmp_path / "evil.bin")
    (tmp_path / "empty.bin").write_bytes(b"")
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 9)
    (tmp_path / "folder.bin").mkdir()
    torch.save({"a": torch.zeros(1), "rank": 4}, tmp_path / "number.bin")
    torch.save([torch.zeros(1)], tmp_path / "list.bin")
    for name in ("evil.bin", "empty.bin", "torn.safetensors", "folder.bin", "gone.bin", "number.bin", "list.bin"):
        with pytest.raises(InputError, match=name) as error:
            read_weights(str(tmp_path / name))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(3, 2)}, r"ip\.bin: proj\.bias: is missing"),
        ({"weight": torch.ones(3, 2), "bias": torch.ones(3), "b": torch.ones(1)}, r"ip\.bin: proj\.b: is unknown here"),
        (
            {"weight": torch.ones(3, 9), "bias": torch.ones(3)},
            r"ip\.bin: proj\.weight: shape \[3, 9\], expected \[3, 2\]",
        ),
    ],
)
def test_wrong_keys_and_shapes_change_nothing(state, message):
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(InputError, match=message):
        load_into(module, state, "ip.bin", "proj.")
    assert torch.equal(module.weight, before)
