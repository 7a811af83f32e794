"""The codec of Sketch, in the place of ACE-Step's VAE: latents become a piece, the piece becomes sound."""

from typing import Any

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from numpy.typing import NDArray

from generation.sketch.performance import perform
from generation.sketch.streams import FRAME_RATE, Latents, decode_piece
from generation.sketch.synth import render

SAMPLE_RATE = 48_000


class SketchCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """The `vae` of the Sketch pipeline: decodes latents [B, C, T] into stereo sound [B, 2, samples].

    There is nothing learned in it. `encode` does not exist: Sketch cannot hear.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sampling_rate: int = SAMPLE_RATE,
        downsampling_ratios: tuple[int, ...] = (2, 4, 4, 5, 15),
        tileable: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("anchor", torch.zeros(1))  # gives the module the device and dtype that pipelines ask for

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> Any:
        """Play latents [B, C, T]: float32 [B, 2, T * samples per frame], peaks at most 1."""
        sound = [self._play(item) for item in z.detach().float().cpu().numpy()]
        sample = torch.from_numpy(np.stack(sound)).to(z.device)
        return DecoderOutput(sample=sample) if return_dict else (sample,)

    def _play(self, item: Latents) -> NDArray[np.float32]:
        duration_s = item.shape[1] / FRAME_RATE
        sound: NDArray[np.float32] = render(perform(decode_piece(item.T), duration_s), duration_s)
        return sound
