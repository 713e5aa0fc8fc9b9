"""The contract of a family of pretrained models: what its file says, and what is done with it for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from text23d.contracts import Views
from text23d.errors import UserError
from text23d.prior.hub.condition import Said, TextCondition
from text23d.prior.hub.index import Index
from text23d.prior.hub.parts import Parts

Predict = Callable[[Any, Tensor, Tensor, Said], Tensor]


def as_encoded(index: Index, empty: Said) -> Said:
    """The empty prompt is encoded like any other."""
    return empty


def nothing_else(network: Any, vae: Any, pixels: int) -> Said:
    """The network is told nothing but prompts."""
    return {}


def nothing_of_views(views: Views) -> Said:
    """The network is told nothing of views but the words of their prompts."""
    return {}


@dataclass(frozen=True)
class Family:
    """What sets a family apart; all else is shared.

    pipelines  the classes that model_index.json may name
    encoders   part -> class of tokenizers and text encoders, in transformers; a model may leave some out
    network    (part, class), in diffusers
    encode     (encoders, prompts) -> Said, each [N, ...]; raises UserError for a prompt that is too long
    predict    (network, x [B, C, S, S], t [B] as its scheduler has it, or in (0, 1) for a flow, Said) -> [B, C' >= C,
               S, S], of which the first C channels are the prediction
    unsaid     (index, the empty prompt encoded) -> what guidance moves away from
    extras     (network, autoencoder, pixels of a side of a picture) -> what else the network is told, each [...]
    embeds     the network's configuration -> whether it is told the scale of a guidance that it has learned
    channels   the network's configuration -> those of what it denoises
    sides      the network's configuration -> the side of what it was trained on, as it sees it
    latents    whether the network sees an autoencoder's latents, not pixels
    sees       views -> what else the network is told of each, [B, ...]; raises UserError for views of another kind
    group      examples that the network sees together: they follow each other in a batch
    more       further parts with weights, which a model has to have
    complete   (network, index): what makes of a network that was loaded one that is told all this
    """

    pipelines: Sequence[str]
    encoders: Mapping[str, str]
    network: tuple[str, str]
    encode: Callable[[Parts, Sequence[str]], Said]
    predict: Predict
    unsaid: Callable[[Index, Said], Said] = as_encoded
    extras: Callable[[Any, Any, int], Said] = nothing_else
    embeds: Callable[[Mapping[str, Any]], bool] = lambda config: False
    channels: Callable[[Mapping[str, Any]], int] = lambda config: int(config["in_channels"])
    sides: Callable[[Mapping[str, Any]], int] = lambda config: int(config["sample_size"])
    latents: bool = True
    sees: Callable[[Views], Said] = nothing_of_views
    group: int = 1
    more: Sequence[str] = ()
    complete: Callable[[Any, Index], None] = lambda network, index: None

    @property
    def networks(self) -> list[str]:
        """Parts with weights."""
        texts = [name for name, kind in self.encoders.items() if "Tokenizer" not in kind]
        return [*texts, self.network[0], *self.more, *(["vae"] if self.latents else [])]


@dataclass(frozen=True)
class Network:
    """A family's network as `vp.VariancePreserving` and `flow.RectifiedFlow` want it: computes in `dtype`, gives what
    it got, and leaves out what it says of its variance."""

    model: Any
    predict: Predict
    dtype: torch.dtype

    def __call__(self, x: Tensor, t: Tensor, c: TextCondition) -> Tensor:
        """x [B, C, S, S], t [B], c of length B -> the prediction, as x."""
        said = {name: each.to(self.dtype) for name, each in c.said.items()}
        return self.predict(self.model, x.to(self.dtype), t, said)[:, : x.shape[1]].to(x)


def padded(tokenizer: Any, prompts: Sequence[str], limit: int, ends: int) -> Any:
    """Prompts as tokens, all padded to `limit`, which includes the tokenizer's own `ends` at a prompt's ends.

    Raises UserError for a prompt longer than that.
    """
    longest = max(len(ids) for ids in tokenizer(list(prompts), verbose=False).input_ids)
    if longest > limit:
        raise UserError(
            f"the prompt is {longest - ends} tokens long with its view: this prior reads {limit - ends}; shorten it"
        )
    return tokenizer(list(prompts), padding="max_length", max_length=limit, return_tensors="pt")


@torch.no_grad()
def clip(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> Any:
    """What a CLIP text encoder says of these prompts, padded to the length that it reads.

    Raises UserError for a prompt longer than that.
    """
    told = padded(tokenizer, prompts, encoder.config.max_position_embeddings, ends=2).to(encoder.device)
    return encoder(told.input_ids, output_hidden_states=True)


@torch.no_grad()
def t5(tokenizer: Any, encoder: Any, prompts: Sequence[str], limit: int, masked: bool) -> tuple[Tensor, Tensor]:
    """(last states [N, limit, W], mask [N, limit] of the tokens that are not padding) of a T5 encoder.

    masked: whether the encoder itself leaves padding out. Raises UserError for a prompt of more than `limit` tokens.
    """
    told = padded(tokenizer, prompts, limit, ends=1).to(encoder.device)
    states = encoder(told.input_ids, attention_mask=told.attention_mask if masked else None)[0]
    return states, told.attention_mask
