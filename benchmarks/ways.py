"""Ways to put separately trained concepts into one video, as benchmarks.composition compares them.

Letters: O out_features, I in_features, R rank; C, F, H, W of latents.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.scenes import Group, prompt
from benchmarks.scenes import regions as places
from setandseq_core.backbones.wan import WanBackbone
from setandseq_core.compose.add import Factors
from setandseq_core.compose.apply import applied_concepts
from setandseq_core.compose.live import LiveConcepts
from setandseq_core.compose.strengths import WeightedConcept
from setandseq_core.concept import Concept
from setandseq_core.embedded.world.scene import FRAMES, SIZE
from setandseq_core.flow import sampling_times
from setandseq_core.lora import applied_coefficients
from setandseq_core.sample import latent_noise, sample_latents

STEPS = 12


@dataclass(kw_only=True, slots=True, frozen=True)
class Task:
    """A video that a way has to make."""

    backbone: WanBackbone
    group: Group
    weighted: list[WeightedConcept]
    noise: Tensor

    @property
    def concepts(self) -> list[Concept]:
        """The concepts as they were learned."""
        return [each.concept for each in self.weighted]

    def sample(self, applied: AbstractContextManager[object]) -> Tensor:
        """Sample latents with concepts applied in some way."""
        embeddings = [token for each in self.weighted for token in each.embeddings()]
        with applied:
            return sample_latents(self.backbone, self.noise, prompt(self.group), embeddings=embeddings, steps=STEPS)


def base(task: Task) -> Tensor:
    """The model alone, to show what appears by chance."""
    return task.sample(nullcontext())


def add(task: Task) -> Tensor:
    """The sum of all changes: stacked LoRAs."""
    return task.sample(applied_concepts(task.backbone, task.weighted))


def regions(task: Task) -> Tensor:
    """`live.LiveConcepts`: the model runs for each concept alone, with its own prompt and its region in the middle."""
    prompts = [prompt([name]) for name in task.group]
    return task.sample(applied_concepts(task.backbone, task.weighted, places(len(task.weighted)), prompts))


def one_prompt(task: Task) -> Tensor:
    """Compose as `regions` does, but with one prompt for all concepts."""
    return task.sample(applied_concepts(task.backbone, task.weighted, places(len(task.weighted))))


def unmoved(task: Task) -> Tensor:
    """Compose as `one_prompt` does, but without moving each region to the middle."""
    masks_PFHW = functional.interpolate(places(len(task.weighted)), task.noise.shape[-2:], mode="nearest")
    return _sample_in_turn(task, lambda _step: enumerate(masks_PFHW))


def switch(task: Task) -> Tensor:
    """The concepts take turns, one per step (LoRA Switch of Zhong et al. 2024)."""
    return _sample_in_turn(task, lambda step: [(step % len(task.weighted), torch.ones(()))])


def mean(task: Task) -> Tensor:
    """The mean of each concept's own guided velocity (LoRA Composite of Zhong et al. 2024)."""
    share = torch.tensor(1 / len(task.weighted))
    return _sample_in_turn(task, lambda _step: [(index, share) for index in range(len(task.concepts))])


def rows(task: Task) -> Tensor:
    """Remove from each concept's coefficients their part in the other's row space, so that they read other inputs."""

    def apart(own_RI: Tensor, other_RI: Tensor) -> Tensor:
        basis_IR = torch.linalg.svd(other_RI, full_matrices=False).Vh.T
        return own_RI - own_RI @ basis_IR @ basis_IR.T

    return task.sample(_applied(task, [lambda _, own, other: apart(own, other)] * 2))


def columns(task: Task) -> Tensor:
    """Remove from each identity basis its part in the other's column space, so that they write to other outputs."""
    one, two = (_factors(concept) for concept in task.concepts)
    factors: Factors = {}
    for name in one:
        (up_OR, down_RI), (other_OR, other_RI) = one[name], two[name]
        spaces = [torch.linalg.svd(up, full_matrices=False).U for up in (up_OR, other_OR)]
        ups = [up - space @ (space.T @ up) for up, space in zip((up_OR, other_OR), spaces[::-1], strict=True)]
        factors[name] = (torch.cat(ups, dim=1), torch.cat([down_RI, other_RI]))
    return task.sample(applied_coefficients(task.backbone.module, task.backbone.layers, factors))


def fusion(task: Task) -> Tensor:
    """Gradient fusion (Gu et al. 2023, Mix-of-Show) in closed form, which keeps A_i B_i: B_i C_i (C_1 + C_2)^-1.

    C_i is the matrix of second moments of the inputs of concept i's layers while it makes its own clip.
    """
    moments = [_second_moments(task.backbone, concept) for concept in task.concepts]
    changes = []
    for index in range(2):

        def change(name: str, own_RI: Tensor, _other: Tensor, index: int = index) -> Tensor:
            total_II = (moments[0][name] + moments[1][name]).double()
            total_II += 1e-3 * total_II.diagonal().mean() * torch.eye(len(total_II))
            return torch.linalg.solve(total_II, (own_RI @ moments[index][name]).double().T).T.float()

        changes.append(change)
    return task.sample(_applied(task, changes))


ANY_NUMBER = {way.__name__: way for way in (base, add, switch, mean, unmoved, one_prompt, regions)}
PAIRS = {way.__name__: way for way in (rows, columns, fusion)}
"""Ways that are written here for two concepts only."""


def _factors(concept: Concept) -> Factors:
    return {name: layer.factors() for name, layer in concept.layers.items()}


def _applied(task: Task, changes: list) -> AbstractContextManager[None]:
    """Add both concepts up after changing the coefficients of each: (layer, own, other's) -> own."""
    one, two = (_factors(concept) for concept in task.concepts)
    factors = {}
    for name in one:
        downs = one[name][1], two[name][1]
        changed = [change(name, own, other) for change, own, other in zip(changes, downs, downs[::-1], strict=True)]
        factors[name] = (torch.cat([one[name][0], two[name][0]], dim=1), torch.cat(changed))
    return applied_coefficients(task.backbone.module, task.backbone.layers, factors)


@torch.no_grad()
def _second_moments(backbone: WanBackbone, concept: Concept) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def record(name: str, _layer: nn.Module, args: tuple) -> None:
        inputs_NI = args[0].flatten(0, -2).float()
        found[name] = found.get(name, torch.zeros(())) + inputs_NI.T @ inputs_NI / len(inputs_NI)

    with applied_concepts(backbone, [WeightedConcept(concept=concept)]):
        handles = [
            backbone.module.get_submodule(path).register_forward_pre_hook(partial(record, name))
            for name, path in backbone.layers.items()
        ]
        noise = latent_noise(backbone.latent_shape(FRAMES, SIZE, SIZE), 1000)
        sample_latents(backbone, noise, concept.motion_prompt, steps=6, guidance=1.0)
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def _sample_in_turn(task: Task, who: Callable[[int], Iterable[tuple[int, Tensor]]]) -> Tensor:
    """Euler steps along a weighted sum of single concepts' velocities; `who` gives (concept, weight) for each step."""
    backbone, x_t = task.backbone, task.noise
    texts = [backbone.encode_prompt(text) for text in (prompt(task.group), "")]
    live = [LiveConcepts([each], backbone.layers) for each in task.weighted]
    times = sampling_times(STEPS, backbone.shift)
    for step, (now, after) in enumerate(pairwise(times)):
        total = torch.zeros_like(x_t)
        for index, weight in who(step):
            with live[index].running(backbone.module, backbone.shift):
                asked, negative = backbone.velocity(x_t.expand(2, *x_t.shape), now.expand(2), texts)
            total += weight * (negative + backbone.guidance * (asked - negative))
        x_t = x_t + (after - now) * total
    return x_t
