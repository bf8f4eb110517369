from pathlib import Path

import pytest
import torch

from setandseq_core.clips.clip import Clip, Reference, Words
from setandseq_core.concept import AS_LEARNED, WITHOUT, Concept, scaled_embeddings
from setandseq_core.concept_file.export import describe
from setandseq_core.concept_file.file import load_concept, save_concept
from setandseq_core.concept_file.safetensors import read_header
from setandseq_core.config import MethodConfig, PriorConfig, SequenceConfig, SetConfig
from setandseq_core.errors import ConceptFileError, ConceptMismatchError, ConfigError, PromptError
from setandseq_core.learn import learn_concept, learn_identity
from setandseq_core.prompts import place_embeddings
from setandseq_core.sample import latent_noise, sample_latents
from setandseq_core.training.progress import StopTraining


@pytest.fixture
def config() -> MethodConfig:
    return MethodConfig(
        rank=2,
        prior=PriorConfig(share=0.0),
        token_learning_rate=1e-2,
        set_stage=SetConfig(steps=3, batch=1, learning_rate=1e-2),
        sequence_stage=SequenceConfig(steps=3, batch=1, learning_rate=1e-2),
    )


@pytest.fixture
def references(tiny_frames: torch.Tensor) -> list[Reference]:
    words = Words(static_prompt="a blob", motion_prompt="a blob hopping")
    return [Reference(clip=Clip(frames_FHWC=tiny_frames, fps=16.0, choice="all"), words=words)]


@pytest.fixture
def concept(tiny_backbone, references, config) -> Concept:
    return learn_concept(tiny_backbone, references, config, name="blob")


def test_tokens_take_the_last_places_and_zeros_change_nothing():
    text = torch.zeros(1, 6, 4)
    text[:, :3] = 1
    assert torch.equal(place_embeddings(text, []), text)
    assert torch.equal(place_embeddings(text, [torch.zeros(4), torch.zeros(4)]), text)
    placed = place_embeddings(text, [torch.full((4,), 2.0), torch.full((4,), 3.0)])
    assert placed[0, :, 0].tolist() == [1, 1, 1, 0, 2, 3]
    with pytest.raises(PromptError, match=r"leaves 3 of the text encoder's 6 places free.*need 4"):
        place_embeddings(text, [torch.ones(4)] * 4)


def test_each_stage_learns_its_own_token(tiny_backbone, references, config, concept):
    identity = learn_identity(tiny_backbone, references, config, name="blob")
    assert list(identity.embeddings) == ["identity_embedding"]
    assert list(concept.embeddings) == ["identity_embedding", "motion_embedding"]
    assert torch.equal(identity.embeddings["identity_embedding"], concept.embeddings["identity_embedding"])
    assert all(embedding.shape == (4096,) and embedding.any() for embedding in concept.embeddings.values())


def test_tokens_learn_at_their_own_rate(concept):
    largest = {name: float(value.abs().max()) for name, value in concept.embeddings.items()}
    assert all(0.005 < value < 0.031 for value in largest.values()), "three steps of AdamW at 0.01"


def test_none_are_learned_by_default(tiny_backbone, references, config):
    plain = MethodConfig(rank=2, prior=config.prior, set_stage=config.set_stage, sequence_stage=config.sequence_stage)
    assert learn_concept(tiny_backbone, references, plain, name="blob").embeddings == {}
    with pytest.raises(ConfigError, match="token_learning_rate"):
        MethodConfig(token_learning_rate=-1.0)


def test_learned_tokens_resume(tiny_backbone, references, config, concept, tmp_path):
    def stop(progress):
        if (progress.stage, progress.step) == ("sequence", 2):
            raise StopTraining

    learn_concept(tiny_backbone, references, config, name="blob", folder=tmp_path, progress=stop)
    whole = learn_concept(tiny_backbone, references, config, name="blob", folder=tmp_path)
    assert all(torch.equal(whole.embeddings[name], value) for name, value in concept.embeddings.items())


def test_they_act_on_the_prompt_and_not_on_the_negative_one(tiny_backbone, concept):
    noise = latent_noise(tiny_backbone.latent_shape(5, 32, 32), 0)

    def made(embeddings, **options):
        return sample_latents(tiny_backbone, noise, "a blob", embeddings=embeddings, steps=2, **options)

    learned = [1000 * value for value in scaled_embeddings(concept.embeddings, AS_LEARNED)]
    off = scaled_embeddings(concept.embeddings, WITHOUT)
    assert torch.equal(made(off), made(()))
    assert not torch.allclose(made(learned), made(()))
    assert torch.equal(made(learned, guidance=0.0), made((), guidance=0.0)), "guidance 0 is the negative prompt alone"


def test_the_file_keeps_them_and_others_stay_version_1(concept, tmp_path: Path):
    path = tmp_path / "blob.safetensors"
    save_concept(concept, path)
    assert read_header(path).metadata["setandseq.version"] == "2"
    loaded = load_concept(path)
    for name, value in concept.embeddings.items():
        assert torch.equal(loaded.embeddings[name], value.bfloat16().float())
    assert "Learned tokens: identity_embedding, motion_embedding, 4096 wide" in describe(loaded)
    plain = Concept(info=concept.info, layers=concept.layers)
    save_concept(plain, path)
    assert read_header(path).metadata["setandseq.version"] == "1" and load_concept(path).embeddings == {}


def test_wrong_tokens_are_named(concept, tmp_path: Path):
    for embeddings in (
        {"identity_embedding": torch.ones(4, 2)},
        {"identity_embedding": torch.ones(4), "motion_embedding": torch.ones(5)},
        {"colour_embedding": torch.ones(4)},
    ):
        with pytest.raises(ConceptMismatchError, match="_embedding' has shape"):
            Concept(info=concept.info, layers=concept.layers, embeddings=embeddings)
    with pytest.raises(ConceptMismatchError, match="identity_embedding holds NaN"):
        Concept(info=concept.info, layers=concept.layers, embeddings={"identity_embedding": torch.tensor([torch.nan])})
    path = tmp_path / "blob.safetensors"
    save_concept(concept, path)
    path.write_bytes(path.read_bytes().replace(b'"setandseq.version":"2"', b'"setandseq.version":"1"'))
    with pytest.raises(ConceptFileError, match="version 1 cannot hold learned tokens"):
        load_concept(path)


def test_several_concepts_in_one_cannot_share_a_learned_token(tiny_backbone, tiny_frames, config):
    clip = Clip(frames_FHWC=tiny_frames, fps=16.0, choice="all")
    pair = [
        Reference(
            clip=clip, words=Words(static_prompt=f"a {token}", motion_prompt=f"a {token} up", identity_token=token)
        )
        for token in ("[a]", "[b]")
    ]
    with pytest.raises(ConfigError, match=r"one concept.*\[a\], \[b\].*token_learning_rate to 0"):
        learn_concept(tiny_backbone, pair, config, name="pair")
