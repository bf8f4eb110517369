"""Paths of the embedded model's weights and of the demo clip."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
TRANSFORMER_FILE = WEIGHTS / "diffusion_models" / "setandseq_embedded_transformer.safetensors"
VAE_FILE = WEIGHTS / "vae" / "setandseq_embedded_vae.safetensors"
CLIP_FILE = Path(__file__).parent / "demo_clip.mp4"
