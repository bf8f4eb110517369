"""Sampling: each sampler's result for given velocities of the model."""

import pytest
import torch

from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.config import SamplingConfig, config_from_dict
from setandseq_core.errors import ConfigError
from setandseq_core.flow import sampling_times
from setandseq_core.sample import latent_noise, sample_latents, sampled_as


def test_lcm_goes_to_the_clip_and_puts_new_noise_in(
    tiny_backbone: WanBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The velocity points at zeros from everywhere, so x_0 is zero after each step and only new noise is left."""
    seen: list[torch.Tensor] = []

    def velocity(x_t: torch.Tensor, time_B: torch.Tensor, _texts: object) -> torch.Tensor:
        seen.append(x_t[0].clone())
        return x_t / time_B.view(-1, 1, 1, 1, 1)

    monkeypatch.setattr(tiny_backbone, "velocity", velocity)
    noise = latent_noise((16, 2, 4, 4), 3)
    made = sample_latents(tiny_backbone, noise, "a blob", steps=3, guidance=1.0, sampler="lcm")
    times = sampling_times(3, tiny_backbone.shift)
    assert torch.equal(seen[0], noise)
    torch.testing.assert_close(made, torch.zeros_like(made), rtol=0, atol=1e-5)
    for x_t, time in zip(seen[1:], times[1:-1], strict=True):
        assert x_t.std().item() == pytest.approx(time.item(), rel=0.1)
        assert torch.corrcoef(torch.stack([x_t.flatten(), noise.flatten()]))[0, 1].abs() < 0.2
    again = sample_latents(tiny_backbone, noise, "a blob", steps=3, guidance=1.0, sampler="lcm")
    assert torch.equal(made, again)


def test_one_step_is_the_same_for_both_samplers(tiny_backbone: WanBackbone) -> None:
    noise = latent_noise((16, 2, 4, 4), 3)
    euler, lcm = (
        sample_latents(tiny_backbone, noise, "a blob", steps=1, guidance=1.0, sampler=name) for name in ("euler", "lcm")
    )
    torch.testing.assert_close(euler, lcm)


def test_guidance_zero_is_the_models_own(tiny_backbone: WanBackbone) -> None:
    assert sampled_as(tiny_backbone, SamplingConfig()).guidance == tiny_backbone.guidance == 4.0
    assert sampled_as(tiny_backbone, SamplingConfig(guidance=1.0)).guidance == 1.0


def test_no_guidance_given_is_the_models_own(tiny_backbone: WanBackbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny_backbone, "guidance", 2.5)
    noise = latent_noise((16, 2, 4, 4), 3)
    own, same, other = (
        sample_latents(tiny_backbone, noise, "a blob", steps=2, guidance=guidance) for guidance in (None, 2.5, 4.0)
    )
    assert torch.equal(own, same)
    assert not torch.equal(own, other)


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("guidance", -1.0), ("sampler", "ddim")])
def test_bad_sampling_settings_are_named(name: str, value: float | str) -> None:
    with pytest.raises(ConfigError, match=f"sampling.{name}"):
        config_from_dict({"sampling": {name: value}})
