"""Text from a model, whole or token by token: greedy, by temperature, from the k best; and how repetitive a text is."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from cllm_lab.corpus.source import TokenSource, require_vocabulary
from cllm_lab.model.config import require_count
from cllm_lab.model.parameters import Array
from cllm_lab.model.transformer import Transformer
from cllm_lab.streams import stream


def generate(
    model: Transformer,
    corpus: TokenSource,
    prompt: str,
    n_tokens: int = 20,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> str:
    """The prompt and ``n_tokens`` more tokens, drawn one after the other.

        p(v) proportional to exp(z_v / temperature)    over the ``top_k`` largest logits, over all where None

    ``temperature`` 0 takes the largest logit each time (greedy). Only tokens that stand for text are drawn:
    never a special one, never a row of the model beyond the corpus's vocabulary. The model sees the last
    ``context_length`` tokens. The same seed gives the same text.
    Raises CorpusError or ValueError for an empty prompt, unknown words in it, or a number out of range;
    ArithmeticError where the model gives logits that are not finite.
    """
    return prompt + "".join(generated_tokens(model, corpus, prompt, n_tokens, temperature, top_k, seed))


def generated_tokens(
    model: Transformer,
    corpus: TokenSource,
    prompt: str,
    n_tokens: int = 20,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """What `generate` appends to the prompt, a piece of text per token, each drawn when it is asked for.

    A piece begins with what separates it from the text before it. Each is drawn from the weights that the model has
    at that moment, so that training may go on between two.
    Raises as `generate` does: for its arguments when it is called, ArithmeticError when a piece is asked for.
    """
    require_vocabulary(corpus, model.config.vocab_size)
    require_count("n_tokens", n_tokens, 0)
    allowed = np.setdiff1d(np.arange(corpus.vocab_size), corpus.special_ids)
    if not (isinstance(temperature, (int, float)) and math.isfinite(temperature) and temperature >= 0.0):
        raise ValueError(f"temperature must be a finite number of at least 0; got {temperature!r}")
    if top_k is not None and require_count("top_k", top_k) > allowed.size:
        raise ValueError(f"top_k={top_k} is more than the {allowed.size} tokens there are")
    tokens = [int(token) for token in corpus.encode(prompt)]
    if not tokens:
        raise ValueError("prompt is empty; give at least one token for the model to go on from")
    rng = stream(seed, "sampling")

    def pieces() -> Iterator[str]:
        for _ in range(n_tokens):
            window = np.array([tokens[-model.config.context_length :]], np.int32)
            logits = model.forward(window).logits[0, -1, allowed].astype(np.float64)
            if not np.isfinite(logits).all():
                raise ArithmeticError(
                    "the model's logits are not all finite; train again from an earlier state"
                )
            tokens.append(int(allowed[_choose(logits, temperature, top_k, rng)]))
            yield corpus.tokenizer.separator + corpus.decode(tokens[-1:])

    return pieces()


def _choose(logits: Array, temperature: float, top_k: int | None, rng: np.random.Generator) -> int:
    if temperature == 0.0:
        return int(np.argmax(logits))
    # A stable sort, so that equal logits are cut in the order of their ids on every machine.
    best = np.argsort(-logits, kind="stable")[:top_k]
    with np.errstate(over="ignore"):  # near temperature 0 all but the best go to -inf, as they should
        scaled = (logits[best] - logits[best[0]]) / temperature
    probabilities = np.exp(scaled)
    return int(rng.choice(best, p=probabilities / probabilities.sum()))


def repetition(text: str, n: int = 3) -> float:
    """Share of a text's word n-grams that stood in it before: 1 - distinct / total.

    0 where nothing repeats; "is the blue is the blue" has 1/4 at n = 3. Compare greedy text with sampled text
    and with the corpus: a sound model repeats itself when decoded greedily (Holtzman et al. 2020).
    Raises ValueError for a text of fewer than n words, TypeError for what is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str; got {type(text).__name__}")
    words = text.split()
    total = len(words) - require_count("n", n) + 1
    if total < 1:
        raise ValueError(f"text has {len(words)} words, too few for n={n}")
    distinct = len({tuple(words[i : i + n]) for i in range(total)})
    return (total - distinct) / total
