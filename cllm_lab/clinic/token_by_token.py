"""What a machine's loss is worth when nothing after a position is there to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cllm_lab.clinic.dependency import logits_of, rounding_floor
from cllm_lab.clinic.recomputed_loss import cross_entropies, judged_logits
from cllm_lab.model.parameters import Array


@dataclass(frozen=True, repr=False)
class TokenByToken:
    """Cross-entropy at each position, (T,) in nats, a mean over windows.

    ``in_window``: with the whole window given, as in training. ``one_by_one``: with the tokens up to that position
    alone, as in generation. ``floor``: differences up to this are rounding.
    """

    in_window: Array
    one_by_one: Array
    floor: float

    @property
    def window_loss(self) -> float:
        """Mean over positions with whole windows, in nats."""
        return float(self.in_window.mean())

    @property
    def generation_loss(self) -> float:
        """Mean over positions with the tokens up to each alone, in nats."""
        return float(self.one_by_one.mean())

    @property
    def agree(self) -> bool:
        """Whether the two agree at every position, up to rounding, as they do in a causal machine."""
        return bool(np.all(np.abs(self.in_window - self.one_by_one) <= self.floor))

    def __repr__(self) -> str:
        verdict = (
            "they agree at every position: what comes later does not count"
            if self.agree
            else "they differ: what comes later counts, and will not be there when text is generated"
        )
        return (
            f"loss with the whole window in sight {self.window_loss:.2f} nats, "
            f"token by token {self.generation_loss:.2f} nats\n{verdict}"
        )


def token_by_token(subject: Any, inputs: Any, targets: Any) -> TokenByToken:
    """The loss of whole windows, and that of the same targets when each window ends where its target is asked for.

        in_window_i  = mean over b of -ln softmax(z_bi)[target_bi],   z = logits of inputs
        one_by_one_i = the same with z = logits of inputs[:, : i + 1]

    Training and validation losses are of the first kind, text is generated in the second. ``subject`` needs no
    more than ``forward``; inputs and targets: token ids (B, T). T + 1 forward passes.
    Raises TypeError or ValueError for other inputs or targets, and for logits of another shape.
    """
    whole, windows, wanted = judged_logits(subject, inputs, targets)
    alone = np.stack(
        [logits_of(subject, windows[:, : i + 1])[:, -1] for i in range(windows.shape[1])], axis=1
    )
    # Each of the two terms of a cross-entropy moves by no more than the logits do.
    return TokenByToken(
        cross_entropies(whole, wanted).mean(axis=0),
        cross_entropies(alone, wanted).mean(axis=0),
        2.0 * rounding_floor(whole),
    )
