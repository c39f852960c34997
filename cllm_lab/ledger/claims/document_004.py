"""Document 004: the first summary, with embeddings that alone are trained and a loss between them."""

from __future__ import annotations

from cllm_lab.ledger.claim import CONFIRMED, NOT_HERE, REFUTED, Book, Judgement, Measurements, weighed
from cllm_lab.ledger.claims.common import SMALL_ERROR, unseen

BOOK = Book("004")


@BOOK.claim("achievement", "the model can now actually train (by its own rule)", "other-losses")
def _can_train(m: Measurements) -> Judgement:
    ends = {name: m[f"rule_004_{name}_cross_entropy"] for name in ("adam", "sgd")}
    return weighed(*(end < m["unigram"] for end in ends.values())), (
        f"20 epochs by its gradient: cross-entropy {ends['adam']:.2f} with Adam, {ends['sgd']:.2f} with "
        f"SGD; ln V is {m['uniform']:.2f}, the unigram entropy {m['unigram']:.2f}"
    )


@BOOK.claim(
    "gradient computation", "target - current is the gradient that param -= lr grad needs", "squared-distance"
)
def _sign_of_the_gradient(m: Measurements) -> Judgement:
    factor = m["formula_004_over_true"]
    return weighed(factor > 0.0), (
        f"it is {factor:+.0f} times the gradient of half the squared distance between the two"
    )


@BOOK.claim("gradient computation", "its updates bring current and target embeddings nearer", "other-losses")
def _embeddings_approach(m: Measurements) -> Judgement:
    distances = {name: m[f"rule_004_{name}_distance"] for name in ("adam", "sgd")}
    return weighed(*(after < before for before, after in distances.values())), (
        "mean squared distance over 20 epochs: "
        + ", ".join(f"{name} {before:.3f} to {after:.3f}" for name, (before, after) in distances.items())
    )


@BOOK.claim("loss", "embedding similarity as a loss lets training work at once", "other-losses")
def _similarity_works(m: Measurements) -> Judgement:
    own, cross_entropy = m["similarity_own_loss"], m["similarity_cross_entropy"]
    return weighed(own[1] < own[0], cross_entropy < m["unigram"]), (
        f"that loss goes from {own[0]:.2f} to {own[1]:.2f}, the cross-entropy of the logits ends at "
        f"{cross_entropy:.2f}; the unigram entropy is {m['unigram']:.2f}"
    )


@BOOK.claim("what is partial", "the loss should be a cross-entropy over the vocabulary", "other-losses")
def _should_be_cross_entropy(m: Measurements) -> Judgement:
    right, other = m["cross_entropy_after_true_gradients"], m["similarity_cross_entropy"]
    return weighed(right < m["unigram"], other > m["unigram"]), (
        f"20 epochs reach a cross-entropy of {right:.2f} with it and {other:.2f} with the similarity"
    )


@BOOK.claim(
    "what is missing", "backward passes of the layers are what is missing for them to train", "other-losses"
)
def _layers_lack_a_backward_pass(m: Measurements) -> Judgement:
    answer = m["similarity_loss_answers_to_layers"]
    return weighed(answer > 0.0), (
        f"the similarity loss changes by {answer:g} when a layer's tensor is moved: that is all a backward "
        "pass could pass on"
    )


@BOOK.claim("conclusion", "training the embeddings alone is a working stage", "embeddings-alone")
def _embeddings_alone_train(m: Measurements) -> Judgement:
    return weighed(m["embeddings"][-1] < m["unigram"]), (
        f"with the true gradient, embeddings alone reach {m['embeddings'][-1]:.2f} in 20 epochs, all "
        f"tensors {m['all'][-1]:.2f}; unigram entropy {m['unigram']:.2f}"
    )


@BOOK.claim("status", '"production-ready for embedding training"', "other-losses")
def _production_ready(m: Measurements) -> Judgement:
    end = m["rule_004_adam_cross_entropy"]
    return weighed(end < m["start"]), (
        f"its rule with Adam takes the cross-entropy from {m['start']:.2f} to {end:.2f} in 20 epochs"
    )


@BOOK.claim("key features", "the gradient accumulates over every place of a token", "squared-distance")
def _gradients_accumulate(m: Measurements) -> Judgement:
    return weighed(m["accumulated_error"] < SMALL_ERROR), (
        f"summed over a token's places it agrees with finite differences to {m['accumulated_error']:.0e}"
    )


@BOOK.claim("key insights", "gradient accumulation is essential for batch training", "squared-distance")
def _accumulation_is_essential(m: Measurements) -> Judgement:
    return weighed(m["overwritten_error"] > SMALL_ERROR), (
        "where a token's later place overwrites the earlier one the gradient is off by "
        f"{m['overwritten_error']:.0%}"
    )


@BOOK.claim("optimizer", "Adam as published by Kingma and Ba", "adam")
def _adam_as_published(m: Measurements) -> Judgement:
    first, variant = m["distance_to_adam_tiny"], m["distance_to_adam_epsilon_hat_tiny"]
    return weighed(first < SMALL_ERROR, variant < SMALL_ERROR), (
        f"distance from the paper's variant with epsilon outside the correction {variant:.0e}; from its "
        f"algorithm 1  {first:.0%} at gradients of 1e-8 and by {m['distance_to_adam_ordinary']:.0e} at "
        "gradients of 1"
    )


@BOOK.claim("optimizer", "beta1 0.9, beta2 0.999, epsilon 1e-8", "adam")
def _adam_settings(m: Measurements) -> Judgement:
    return weighed(m["default_betas"] == m["betas"], m["default_epsilon"] == 1e-8), (
        f"the defaults here, which are the paper's: betas {m['default_betas']}, epsilon "
        f"{m['default_epsilon']:g}"
    )


@BOOK.claim("optimizer", "the bias correction lr sqrt(1 - beta2^t) / (1 - beta1^t)", "adam")
def _bias_correction(m: Measurements) -> Judgement:
    distance = m["distance_to_adam_ordinary"]
    return weighed(distance < SMALL_ERROR), (
        f"at gradients of size 1, twenty steps differ from correcting both moments by {distance:.0e}"
    )


@BOOK.claim(
    "phase 3", "comparing numerical with analytical gradients verifies correctness", "gradient-checking"
)
def _gradient_checking_works(m: Measurements) -> Judgement:
    return weighed(m["sound_worst"] < SMALL_ERROR, m["broken_worst"] > 1e-2), (
        f"worst relative error {m['sound_worst']:.0e} on a sound machine, {m['broken_worst']:.1f} on one "
        "that drops a residual's gradient"
    )


@BOOK.claim("progress", "overall completion about 75 %", "sums")
def _completion(m: Measurements) -> Judgement:
    mean = m["completion_mean"]
    verdict = CONFIRMED if abs(mean - 75.0) < 2.5 else NOT_HERE
    return verdict, f"the mean of the table's six rows is {mean:.1f} %; weights that give 75 are not stated"


@BOOK.claim("key features", "memory is handled safely, without leaks", "original-program")
def _memory_is_safe(m: Measurements) -> Judgement:
    return unseen(m, "how the original allocates and frees")


@BOOK.claim("status", "the build is clean: no error, one warning", "original-program")
def _build_is_clean(m: Measurements) -> Judgement:
    return unseen(m, "what a compiler says of the original")


@BOOK.claim(
    "what works", "forward pass with positions, attention, feed-forward, layer norm", "original-program"
)
def _forward_pass_is_complete(m: Measurements) -> Judgement:
    return unseen(m, "what the original's forward pass computes")


@BOOK.claim("next steps", "extending training to the layers follows the same pattern", "other-losses")
def _same_pattern(m: Measurements) -> Judgement:
    answer = m["similarity_loss_answers_to_layers"]
    return (REFUTED if answer == 0.0 else CONFIRMED), (
        f"the pattern's loss takes the embeddings alone (a layer moves it by {answer:g})"
    )
