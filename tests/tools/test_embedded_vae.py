import pytest
import torch
from diffusers import AutoencoderKLWan

from setandseq_core.embedded.vae import decode_clip, encode_moments
from tools.embedded_model.release import fold_latent_scale
from tools.embedded_model.train_vae import new_vae


@pytest.fixture
def vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    sizes = {"base_dim": 4, "z_dim": 16, "dim_mult": [1, 2, 4, 4], "num_res_blocks": 2}
    return AutoencoderKLWan(**sizes).eval()


@pytest.mark.parametrize("frames", [1, 5, 17])
@torch.no_grad()
def test_the_whole_clip_at_once_equals_diffusers_in_chunks(vae, frames):
    clip = torch.rand(2, 3, frames, 32, 32) * 2 - 1
    posterior = vae.encode(clip).latent_dist
    mean, log_variance = encode_moments(vae, clip)
    torch.testing.assert_close(mean, posterior.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_variance.clamp(-30, 20), posterior.logvar, rtol=0, atol=1e-5)
    latents = torch.randn_like(mean)
    decoded = vae.decode(latents, return_dict=False)[0]
    torch.testing.assert_close(decode_clip(vae, latents).clamp(-1, 1), decoded, rtol=0, atol=5e-5)


@torch.no_grad()
def test_folding_the_scale_sets_the_statistics_and_keeps_the_frames(vae):
    clip = torch.rand(1, 3, 5, 32, 32) * 2 - 1
    latents, log_variance = encode_moments(vae, clip)
    before = decode_clip(vae, latents)
    channels = latents.movedim(1, 0).flatten(1)
    fold_latent_scale(vae, channels.mean(1), channels.std(1))
    latents, folded_log_variance = encode_moments(vae, clip)
    channels = latents.movedim(1, 0).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.tensor(vae.config["latents_mean"]), rtol=0, atol=1e-4)
    torch.testing.assert_close(channels.std(1), torch.tensor(vae.config["latents_std"]), rtol=1e-4, atol=0)
    torch.testing.assert_close(decode_clip(vae, latents), before, rtol=0, atol=1e-4)
    assert not torch.equal(folded_log_variance, log_variance)


@torch.no_grad()
def test_an_untrained_vae_repeats_single_frames_over_time():
    torch.manual_seed(0)
    vae = new_vae()
    frame = torch.rand(1, 3, 1, 32, 32) * 2 - 1
    latents, _ = encode_moments(vae, frame.expand(-1, -1, 5, -1, -1))
    torch.testing.assert_close(latents[:, :, 1], latents[:, :, 0], rtol=0, atol=1e-5)
