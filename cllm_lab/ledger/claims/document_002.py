"""Document 002: the gradient mismatch, its mathematics, and its two cures."""

from __future__ import annotations

from cllm_lab.ledger.claim import CONFIRMED, NOT_HERE, REFUTED, Book, Judgement, Measurements, shown, weighed
from cllm_lab.ledger.claims.common import PRINTED, SMALL_ERROR, SYMPTOM, arm, pinned, unseen

BOOK = Book("002")
ORTHOGONAL = 0.1
"""Two gradients whose cosine is nearer to 0 than this have nothing to do with each other."""


@BOOK.claim("progress, issue 1", "a loss computed without the model stood at 4.1855", "loss-from-ids")
def _four_point_one(m: Measurements) -> Judgement:
    verdict = CONFIRMED if abs(m["before"] - 4.1855) <= PRINTED else NOT_HERE
    return verdict, (
        f"the same formula gives {m['before']:.4f} on this corpus's ids; 4.1855 belongs to the original's "
        "corpus, which is not here"
    )


@BOOK.claim(
    "progress, issue 1",
    "a loss taken from token ids alone is constant, whatever the model learns",
    "loss-from-ids",
)
def _loss_from_ids_is_constant(m: Measurements) -> Judgement:
    # The model must have changed for the constancy to say anything: half the way from ln V to 0 is no accident.
    return weighed(m["after"] == m["before"], m["cross_entropy"] < m["before"]), (
        f"printed {m['before']:.4f} before and {m['after']:.4f} after a training that brought the "
        f"cross-entropy to {m['cross_entropy']:.2f}"
    )


@BOOK.claim(
    "progress, issue 1",
    "another constant, 9.2103, shows that the loss now uses the forward pass",
    "zero-weights",
)
def _new_constant_shows_the_forward_pass(m: Measurements) -> Judgement:
    counts_outputs = abs(m["ln_10000"] - SYMPTOM) <= PRINTED
    return weighed(counts_outputs, m["tensors_that_move_the_loss_alone"] > 0), (
        f"it comes from the outputs, since ln 10000 = {m['ln_10000']:.4f} counts them and no token id does; "
        "but where a machine of zeros prints it, "
        f"{m['tensors_that_move_the_loss_alone']} of {m['tensors']} tensors, perturbed one at a time, move "
        "the loss"
    )


@BOOK.claim("progress, issue 2", "the forward pass goes through all layers", "original-program")
def _all_layers_forward(m: Measurements) -> Judgement:
    return unseen(m, "through which layers the original's forward pass goes")


@BOOK.claim(
    "progress, issue 3", "the optimizer updates all parameters (while the loss is 9.2103)", "zero-weights"
)
def _optimizer_updates_all(m: Measurements) -> Judgement:
    return weighed(max(m["tensors_changed"]) == m["tensors"]), (
        f"in the state that prints 9.2103 the optimizers change {max(m['tensors_changed'])} of "
        f"{m['tensors']} tensors in three epochs"
    )


@BOOK.claim("progress, issue 4", "the key 'i' no longer interferes", "live-bench")
def _hotkey(m: Measurements) -> Judgement:
    if m["hotkey_stolen"] is None:
        return NOT_HERE, "a browser was not here when the bench was measured"
    on_a_button, on_a_cell = m["commands_on_a_button"], m["commands_on_a_cell"]
    return weighed(not m["hotkey_stolen"], not on_a_button), (
        f"in JupyterLab, of what is typed into the {m['fields']} fields of the bench here "
        f"{'some' if m['hotkey_stolen'] else 'nothing'} is taken for a command; typed twice while a button has the "
        f"focus, the key runs {on_a_button[0] if on_a_button else 'nothing'}, and on a cell {on_a_cell[0]}"
    )


@BOOK.claim("current problem", "9.2103, different from before, but constant", "zero-weights")
def _another_constant(m: Measurements) -> Judgement:
    losses = arm(m, "gradient_between_embeddings")
    return weighed(pinned(losses)), (f"with the mismatched gradient and zero weights: {shown(losses)}")


@BOOK.claim(
    "root cause",
    "a gradient between input and target embeddings, as listed, holds a loss constant, and at 9.2103",
    "blamed-causes",
)
def _mismatch_keeps_loss_constant(m: Measurements) -> Judgement:
    losses = m["gradient_between_embeddings"]
    fast = m["gradient_between_embeddings_at_rate_10"]
    return weighed(max(losses) - min(losses) <= 2 * PRINTED, pinned(losses)), (
        f"from real weights at the documents' rate the loss is {shown(losses)}; at rate 10 it is "
        f"{shown(fast)}"
    )


@BOOK.claim(
    "root cause", "cross-entropy and MSE between embeddings have unrelated gradients", "blamed-causes"
)
def _different_loss_functions(m: Measurements) -> Judgement:
    cosine = m["cosine_with_true_gradient"]
    return weighed(
        abs(cosine) < ORTHOGONAL
    ), f"cosine of the two gradients over the embedding table: {cosine:.3f}"


@BOOK.claim(
    "root cause", "parameters change in a way that does not affect the cross-entropy", "blamed-causes"
)
def _parameters_change_without_effect(m: Measurements) -> Judgement:
    slow, fast = m["gradient_between_embeddings"], m["gradient_between_embeddings_at_rate_10"]
    still_when_slow = abs(slow[-1] - slow[0]) <= 2 * PRINTED
    still_when_fast = max(fast) - min(fast) <= 2 * PRINTED
    return weighed(
        m["gradient_between_embeddings_embeddings_changed"], still_when_slow and still_when_fast
    ), (
        f"embeddings changed: {m['gradient_between_embeddings_embeddings_changed']}; at rate 0.001 the loss "
        f"moves by {slow[-1] - slow[0]:.5f} in three epochs, at rate 10 over a range of "
        f"{max(fast) - min(fast):.4f}"
    )


@BOOK.claim("mathematics", "L = -log(softmax(logits)[target])", "cross-entropy")
def _cross_entropy_formula(m: Measurements) -> Judgement:
    error = m["formula_beside_engine_error"]
    return weighed(
        error < SMALL_ERROR
    ), f"its mean over a batch differs from the engine's loss by {error:.0e}"


@BOOK.claim("mathematics", "W - lr dL/dW decreases L", "learning-rates")
def _descent_decreases(m: Measurements) -> Judgement:
    small, large = m["change_in_one_step_at_0.01"], m["change_in_one_step_at_100"]
    return weighed(small < 0.0, large < 0.0), (
        f"one step changes the batch's loss by {small:.4f} at rate 0.01 and by {large:+.1f} at rate 100"
    )


@BOOK.claim("mathematics", "L2 may decrease while L1 stays constant", "blamed-causes")
def _one_falls_the_other_stays(m: Measurements) -> Judgement:
    distance = m["gradient_between_embeddings_at_rate_10_embedding_distance"]
    losses = m["gradient_between_embeddings_at_rate_10"]
    return weighed(distance[1] < distance[0], max(losses) - min(losses) <= 2 * PRINTED), (
        f"at rate 10 the squared distance between embeddings goes from {distance[0]:.4f} to "
        f"{distance[1]:.4f}, the cross-entropy {shown(losses)}"
    )


@BOOK.claim("option 1", "dL/dlogits = softmax(logits) - one_hot(target)", "cross-entropy")
def _logits_gradient(m: Measurements) -> Judgement:
    return weighed(m["gradient_error"] < SMALL_ERROR), (
        f"relative distance to finite differences {m['gradient_error']:.0e} (one position; a mean over B T "
        "divides by B T)"
    )


@BOOK.claim("root cause", "the MSE gradient is 2 (input - target) / (B T)", "squared-distance")
def _mse_gradient_formula(m: Measurements) -> Judgement:
    at_input, at_table = m["formula_error_at_the_input"], m["formula_error_at_the_shared_table"]
    return weighed(at_input < SMALL_ERROR, at_table < SMALL_ERROR), (
        f"relative error {at_input:.0e} with respect to the input; {at_table:.2f} with respect to the one "
        "table that holds inputs and targets, whose target side is left out"
    )


@BOOK.claim(
    "option 2", "MSE instead of cross-entropy shows a falling loss but gives no good model", "other-losses"
)
def _mse_gives_no_model(m: Measurements) -> Judgement:
    own, cross_entropy = m["mse_own_loss"], m["mse_cross_entropy"]
    return weighed(own[1] < 0.5 * own[0], cross_entropy > m["unigram"]), (
        f"its own loss goes from {own[0]:.3g} to {own[1]:.3g}; the cross-entropy of its logits is "
        f"{cross_entropy:.2f}, ln V being {m['uniform']:.2f} and the unigram entropy {m['unigram']:.2f}"
    )


@BOOK.claim(
    "test results", "embeddings are updated and gradients computed while the loss stays", "dead-feed-forward"
)
def _updated_but_constant(m: Measurements) -> Judgement:
    return weighed(pinned(m["epoch_losses"]), m["embeddings_changed"], m["largest_gradient_norm"] > 0.0), (
        f"with real embeddings, zero feed-forward weights and no residual: {shown(m['epoch_losses'])}, "
        f"gradient norm up to {m['largest_gradient_norm']:.3f}, embeddings changed: "
        f"{m['embeddings_changed']}"
    )


@BOOK.claim(
    "recommendation",
    "the cross-entropy backward pass enables the loss to decrease (the weights being zero)",
    "zero-weights",
)
def _right_backward_enables(m: Measurements) -> Judgement:
    losses = arm(m, "sgd")
    return (REFUTED if pinned(losses) else CONFIRMED), (
        f"the proven cross-entropy gradient from zero weights: {shown(losses)}, largest norm "
        f"{m['largest_gradient_norms'][m['arms'].index('sgd')]:g}"
    )


@BOOK.claim("recommendation", "the right gradient also betters generation", "other-losses")
def _right_gradient_betters_generation(m: Measurements) -> Judgement:
    right, mse = m["true_known_pairs"], m["mse_known_pairs"]
    return weighed(right > mse), (
        f"share of drawn word pairs that stand in the corpus after 20 epochs: {right:.0%} with "
        f"cross-entropy, {mse:.0%} with MSE"
    )


@BOOK.claim("quick fix", "summing squared differences matches the existing backward pass", "squared-distance")
def _quick_fix_matches(m: Measurements) -> Judgement:
    factor = m["quick_fix_over_formula"]
    # Same direction is one half of matching, same length the other.
    return weighed(factor > 0.0, abs(factor - 1.0) < SMALL_ERROR), (
        f"the gradient of its sum is {factor:.0f} times the backward pass's for {m['quick_fix_positions']} "
        "positions: the code sums, the backward pass divides by their number"
    )


@BOOK.claim("effort", "the parts add up to 7 to 10 hours", "sums")
def _hours_add_up(m: Measurements) -> Judgement:
    return weighed(m["hours_002"] == [7, 10]), f"their sum: {m['hours_002'][0]} to {m['hours_002'][1]}"


@BOOK.claim("effort", "the work takes 7 to 10 hours", "sums")
def _hours_taken(m: Measurements) -> Judgement:
    least, most = m["hours_002"]
    return weighed(least <= m["hours_003"] <= most), f"document 003 gives {m['hours_003']} hours spent on it"
