from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from setandseq_core.embedded.text import encode_prompt
from setandseq_core.embedded.vae import _frame_by_frame, decode_clip, encode_moments
from tools.embedded_model import train_transformer
from tools.embedded_model.grow import deepened, widened
from tools.embedded_model.muon import BatchedMuon
from tools.embedded_model.prompts import Prompts
from tools.embedded_model.schedule import Schedule, falling


@torch.no_grad()
def test_a_widened_vae_encodes_and_decodes_as_before():
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2).eval()
    for parameter in vae.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    wide = widened(vae, torch.Generator().manual_seed(0))
    clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    latents, log_variance = encode_moments(vae, clip)
    assert wide.config["base_dim"] == 8
    torch.testing.assert_close(encode_moments(wide, clip), (latents, log_variance), rtol=0, atol=1e-4)
    torch.testing.assert_close(decode_clip(wide, latents), decode_clip(vae, latents), rtol=0, atol=1e-4)


def test_the_two_copies_of_a_channel_learn_different_things():
    torch.manual_seed(0)
    wide = widened(AutoencoderKLWan(base_dim=4, num_res_blocks=1), torch.Generator().manual_seed(0)).requires_grad_(
        True
    )
    encode_moments(wide, torch.rand(1, 3, 5, 16, 16))[0].square().mean().backward()
    gradient = wide.encoder.conv_in.weight.grad
    assert gradient is not None and not torch.allclose(gradient[::2], gradient[1::2], rtol=0.05)


@pytest.mark.parametrize("layers", [2, 3, 5])
@torch.no_grad()
def test_a_deepened_transformer_gives_the_same_velocity(layers):
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_attention_heads": 1, "ffn_dim": 64, "num_layers": 2}
    small = WanTransformer3DModel(**train_transformer.TRANSFORMER_CONFIG | sizes).eval()
    deep = deepened(small, layers)
    inputs = torch.randn(1, 16, 5, 8, 8), torch.tensor([300.0]), encode_prompt("a red circle").unsqueeze(0)
    assert len(deep.blocks) == layers
    torch.testing.assert_close(
        deep(*inputs, return_dict=False)[0], small(*inputs, return_dict=False)[0], rtol=0, atol=1e-6
    )


@torch.no_grad()
def test_a_convolution_frame_by_frame_is_the_causal_one():
    torch.manual_seed(0)
    conv = AutoencoderKLWan(base_dim=4, num_res_blocks=1).encoder.get_submodule("down_blocks.0.conv1")
    assert isinstance(conv, torch.nn.Conv3d)
    x = torch.randn(2, 4, 5, 6, 6).contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(_frame_by_frame(conv, x), conv(x), rtol=0, atol=1e-5)


def test_muon_takes_the_same_steps_together_as_one_by_one():
    torch.manual_seed(0)
    start = [torch.randn(8, 8), torch.randn(8, 8), torch.randn(4, 12), torch.randn(12, 4)]
    gradients = [[torch.randn_like(matrix) for matrix in start] for _ in range(3)]

    def trained(optimizer_of):
        matrices = [torch.nn.Parameter(matrix.clone()) for matrix in start]
        optimizer = optimizer_of(matrices)
        for step in gradients:
            for matrix, gradient in zip(matrices, step, strict=True):
                matrix.grad = gradient.clone()
            optimizer.step()
        return matrices

    together = trained(lambda matrices: BatchedMuon(matrices, lr=0.02, weight_decay=0.1))
    alone = trained(
        lambda matrices: torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    )
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-3)
    assert not torch.allclose(together[0], start[0], rtol=0, atol=1e-2)


def captions():
    full = "a large red circle bouncing on a black plain background, camera zooming in"
    return [{"full": full, "motion": f"{full}, rising", "static": "a small creature on a gray backdrop"}] * 2


def test_prompts_are_encoded_together_as_one_by_one():
    prompts = Prompts(captions())
    words = prompts.draw(torch.tensor([0, 1] * 20), 0.2, 0.0, torch.Generator().manual_seed(0))
    said = [*captions()[0].values(), ""]
    found = {
        next(at for at, prompt in enumerate(said) if torch.allclose(row.float(), encode_prompt(prompt), atol=0.05))
        for row in prompts.encode(words)
    }
    assert found == {0, 1, 2, 3}


def test_a_strange_word_is_put_in_between_the_others():
    prompts = Prompts(captions())
    plain, strange = (
        prompts.draw(torch.zeros(50, dtype=torch.long), 0.0, share, torch.Generator().manual_seed(1))
        for share in (0.0, 1.0)
    )
    known = int(plain.max())
    for before, after in zip(plain.tolist(), strange.tolist(), strict=True):
        assert sum(word > known for word in after) == 1
        assert [word for word in after if 0 < word <= known] == [word for word in before if word]


def test_a_schedule_ends_with_its_steps_or_its_time():
    assert Schedule(100, 0.0).share(25) == 0.25
    assert Schedule(100, 1e-9).share(0) >= 1
    assert 0.25 <= Schedule(100, 60.0).share(25) < 0.26
    assert falling(0.0) == 1 and falling(1.0) == pytest.approx(0) and falling(3.0, lowest=0.03) == 0.03
