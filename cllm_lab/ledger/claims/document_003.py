"""Document 003: the rebuild, its promises, its formulas, its memory and its times."""

from __future__ import annotations

from cllm_lab.ledger.claim import CONFIRMED, REFUTED, Book, Judgement, Measurements, shown, weighed, within
from cllm_lab.ledger.claims.common import PRINTED, SMALL_ERROR, SYMPTOM, UNFALLEN, arm, pinned, unseen

BOOK = Book("003")
MEGABYTE = 1e6


@BOOK.claim("overview", "the loss stayed constant because gradients did not match the loss", "zero-weights")
def _mismatch_was_the_cause(m: Measurements) -> Judgement:
    losses = arm(m, "sgd")
    return (REFUTED if pinned(losses) else CONFIRMED), (
        f"with matching, proven gradients and zero weights: {shown(losses)}"
    )


@BOOK.claim("mathematical correctness", "gradients of the cross-entropy itself optimise it", "blamed-causes")
def _right_gradients_optimise(m: Measurements) -> Judgement:
    losses = m["healthy"]
    return weighed(
        losses[0] - losses[-1] > UNFALLEN
    ), f"from real weights, the documents' SGD: {shown(losses)}"


@BOOK.claim("expected results, before", "9.2103 in each of three epochs", "zero-weights")
def _constant_before(m: Measurements) -> Judgement:
    losses = arm(m, "gradient_between_embeddings")
    return weighed(pinned(losses)), f"zero weights and the old gradient: {shown(losses)}"


@BOOK.claim(
    "expected results, after", "epoch 1 is 9.2103 and the loss falls from there", "documents-size-runs"
)
def _first_epoch_is_ln_v(m: Measurements) -> Judgement:
    near = [abs(m[name][0] - SYMPTOM) <= PRINTED for name in ("adam", "sgd")]
    return weighed(*near), (
        f"mean of epoch 1: {m['adam'][0]:.4f} with Adam, {m['sgd'][0]:.4f} with SGD; ln 10000 = "
        f"{m['ln_10000']:.4f}, the loss before anything is learned"
    )


@BOOK.claim("expected results, after", "7.9234 at epoch 4", "documents-size-runs")
def _epoch_four(m: Measurements) -> Judgement:
    return weighed(m["sgd"][3] <= 7.9234, m["adam"][3] <= 7.9234), (
        f"epoch 4: {m['adam'][3]:.4f} with Adam at {m['adam_learning_rate']:g}, {m['sgd'][3]:.4f} with SGD "
        f"at {m['sgd_learning_rate']:g}"
    )


@BOOK.claim("expected results, after", "3.2456 at epoch 26", "documents-size-runs")
def _epoch_twenty_six(m: Measurements) -> Judgement:
    return weighed(m["sgd"][25] <= 3.2456, m["adam"][25] <= 3.2456), (
        f"epoch 26: {m['adam'][25]:.4f} with Adam at {m['adam_learning_rate']:g}, {m['sgd'][25]:.4f} with "
        f"the documents' SGD at {m['sgd_learning_rate']:g}"
    )


@BOOK.claim("activation storage", "input embeddings: 65,536 floats", "activation-sizes")
def _input_floats(m: Measurements) -> Judgement:
    return weighed(m["input_embeddings_611"] == 65_536), f"counted: {m['input_embeddings_611']:,}"


@BOOK.claim("activation storage", "per-layer activations: 393,216 floats", "activation-sizes")
def _layer_floats(m: Measurements) -> Judgement:
    one = m["layer_inputs_611"]
    held = m["held_611"] - m["input_embeddings_611"] * 2 - m["ff_hidden_611"] - m["logits_611"]
    return weighed(one == 393_216, held == 393_216), (
        f"{one:,} for one array a layer; the structure of the same document holds four a layer, {held:,}"
    )


@BOOK.claim("activation storage", "feed-forward hidden: 1,572,864 floats", "activation-sizes")
def _hidden_floats(m: Measurements) -> Judgement:
    return weighed(m["ff_hidden_611"] == 1_572_864), f"counted: {m['ff_hidden_611']:,}"


@BOOK.claim("activation storage", "logits: 78,208 floats", "activation-sizes")
def _logit_floats(m: Measurements) -> Judgement:
    return weighed(m["logits_611"] == 78_208, m["logits_10000"] == 78_208), (
        f"{m['logits_611']:,} with 611 rows; a loss of 9.2103 comes from 10,000 rows, which make "
        f"{m['logits_10000']:,}"
    )


@BOOK.claim("activation storage", "in all 2.1 million floats, 8.4 MB", "activation-sizes")
def _sum_of_floats(m: Measurements) -> Judgement:
    megabytes = m["counted_611"] * m["bytes_per_float"] / MEGABYTE
    return weighed(abs(m["counted_611"] / 1e6 - 2.1) < 0.05, abs(megabytes - 8.4) < 0.05), (
        f"its addends make {m['counted_611']:,} floats, {megabytes:.2f} MB"
    )


@BOOK.claim("memory usage", "activation storage takes about 8.4 MB a batch", "activation-sizes")
def _memory_of_a_batch(m: Measurements) -> Judgement:
    held, needed = (m[f"{column}_10000"] * m["bytes_per_float"] / MEGABYTE for column in ("held", "needed"))
    return weighed(abs(held - 8.4) < 0.5), (
        f"the structure as printed holds {held:.1f} MB with 10,000 rows; a pass with real attention needs "
        f"{needed:.1f} MB"
    )


@BOOK.claim("activation storage", "vocab_size = 611 (with a loss of 9.2103)", "sizes")
def _vocabulary_of_611(m: Measurements) -> Judgement:
    counted = m["vocabulary"] == 611
    return weighed(counted, abs(m["ln_vocabulary"] - SYMPTOM) <= PRINTED), (
        f"the vocabulary has {m['vocabulary']} entries, but ln {m['vocabulary']} = {m['ln_vocabulary']:.4f} "
        f"and ln 10000 = {m['ln_10000']:.4f}"
    )


@BOOK.claim("gradient computation", "dL/dlogits[v] = softmax[v] - (v == target)", "cross-entropy")
def _cross_entropy_gradient(m: Measurements) -> Judgement:
    return weighed(m["gradient_error"] < SMALL_ERROR), (
        f"relative distance to finite differences {m['gradient_error']:.0e}"
    )


@BOOK.claim("gradient computation", '"softmax gradient": exp(x[i]) / sum(exp(x))', "cross-entropy")
def _softmax_gradient(m: Measurements) -> Judgement:
    as_gradient, jacobian = m["softmax_formula_as_gradient_error"], m["softmax_jacobian_error"]
    return weighed(as_gradient < SMALL_ERROR), (
        f"that is the softmax itself; taken for its derivative it is off by {as_gradient:.0%}, diag(s) - s "
        f"s' by {jacobian:.0e}"
    )


@BOOK.claim(
    "gradient computation", "layer norm: dL/dy gamma / std + corrections for mean and variance", "layer-norm"
)
def _layer_norm_gradient(m: Measurements) -> Judgement:
    return weighed(m["error_with_corrections"] < SMALL_ERROR), (
        "what is missing in the first term lies along the mean and the normalised input, to "
        f"{m['error_with_corrections']:.0e}; without it the error is {m['first_term_error']:.0%}"
    )


@BOOK.claim("gradient computation", "dL/dW1 = input.T @ (dL/dhidden * tanh'(hidden))", "feed-forward")
def _first_matrix_gradient(m: Measurements) -> Judgement:
    before, after = m["dw1_error_hidden_before_tanh"], m["dw1_error_hidden_after_tanh"]
    return weighed(before < SMALL_ERROR, after < SMALL_ERROR), (
        f"relative error {before:.0e} if hidden is meant before the tanh, {after:.2f} if it is what the "
        "next line and the structure call hidden"
    )


@BOOK.claim("gradient computation", "dL/dW2 = hidden.T @ dL/doutput", "feed-forward")
def _second_matrix_gradient(m: Measurements) -> Judgement:
    after = m["dw2_error_hidden_after_tanh"]
    return weighed(after < SMALL_ERROR), (
        f"relative error {after:.0e} with hidden after the tanh, {m['dw2_error_hidden_before_tanh']:.2f} "
        "with hidden before"
    )


@BOOK.claim("verification, test 1", "the gradients match the loss function", "original-program")
def _original_gradients_match(m: Measurements) -> Judgement:
    return unseen(m, "whether the original's gradients match its loss")


@BOOK.claim("verification, test 2", "all updates are in the correct direction", "original-program")
def _original_updates(m: Measurements) -> Judgement:
    return unseen(m, "in which direction the original's updates go")


@BOOK.claim("computation time", "forward pass: 10 to 20 ms a batch", "benchmark-times")
def _forward_time(m: Measurements) -> Judgement:
    return weighed(m["forward_fastest"] <= 20.0), (
        f"{m['forward_ours']:.0f} ms here, {m['forward_fastest']:.0f} ms the fastest library measured, on "
        f"{m['threads']} threads with 10,000 rows"
    )


@BOOK.claim("computation time", "backward pass: 15 to 25 ms a batch", "benchmark-times")
def _backward_time(m: Measurements) -> Judgement:
    return weighed(m["backward_fastest"] <= 25.0), (
        f"{m['backward_ours']:.0f} ms here, {m['backward_fastest']:.0f} ms the fastest library measured"
    )


@BOOK.claim("computation time", "25 to 45 ms a batch in all", "benchmark-times")
def _batch_time(m: Measurements) -> Judgement:
    return weighed(m["bare_products_611"] <= 45.0, m["step_fastest_611"] <= 45.0), (
        f"with 611 rows the matrix products alone take {m['bare_products_611']:.0f} ms, the fastest step "
        f"{m['step_fastest_611']:.0f} ms"
    )


@BOOK.claim("computation time", "9 batches: 225 to 405 ms an epoch", "benchmark-times")
def _epoch_time(m: Measurements) -> Judgement:
    measured = 9.0 * m["step_fastest_611"]
    return weighed(within(measured, 0.0, 405.0)), f"nine of the fastest steps measured: {measured:.0f} ms"


@BOOK.claim("computation time", "the parts add up: 25 to 45 ms, 225 to 405 ms for nine", "sums")
def _times_add_up(m: Measurements) -> Judgement:
    return weighed(m["milliseconds_a_batch"] == [25, 45], m["milliseconds_for_nine"] == [225, 405]), (
        f"sums: {m['milliseconds_a_batch']} and {m['milliseconds_for_nine']} ms"
    )


@BOOK.claim("computation time", "an epoch has 9 batches", "sizes")
def _nine_batches(m: Measurements) -> Judgement:
    return weighed(m["full_batches"] == 9, m["pairs_in_full_batches"] == m["pairs"]), (
        f"{m['full_batches']} full batches hold {m['pairs_in_full_batches']} of {m['pairs']} pairs; the "
        "rest is dropped"
    )


@BOOK.claim("next steps", "gradient clipping prevents explosion", "learning-rates")
def _clipping_prevents_explosion(m: Measurements) -> Judgement:
    without, clipped, rates = m["sgd_rises"][-2:], m["sgd_clipped_rises"], m["sgd_rates"][-2:]
    # A rise of a nat over the first loss is no noise of the batches, which differ by a few hundredths.
    cured = [loose > 1.0 and held <= 1.0 for loose, held in zip(without, clipped, strict=True)]
    return weighed(*cured), (
        f"SGD, highest loss above the first: {without[0]:.2f} nats at rate {rates[0]:g}, clipped at norm 1 "
        f"{clipped[0]:.2f}; {without[1]:.1g} at rate {rates[1]:g}, clipped {clipped[1]:.0f}"
    )


@BOOK.claim("summary", "with all this the loss should now decrease", "zero-weights")
def _loss_should_decrease(m: Measurements) -> Judgement:
    state = arm(m, "doubled_attention")
    return (REFUTED if pinned(state) else CONFIRMED), (
        f"right gradients, the simplified attention, weights of zero as they were: {shown(state)}"
    )


@BOOK.claim(
    "confidence", "the forward pass matches PyTorch's (with a simplified attention)", "forward-beside-doubled"
)
def _forward_matches(m: Measurements) -> Judgement:
    difference = m["relative_difference"]
    # float32 against float32: a few rounding units.
    return weighed(difference < 1e-4), (
        "from equal weights the logits with the doubled input differ from those with attention by "
        f"{difference:.0%} of their size"
    )


@BOOK.claim("confidence", "parameter updates are those of SGD: W - lr dL/dW", "plain-descent")
def _sgd_formula(m: Measurements) -> Judgement:
    return weighed(
        m["error"] < SMALL_ERROR
    ), f"one step of the engine's SGD differs from it by {m['error']:.0e}"


@BOOK.claim("confidence", '"loss WILL decrease if this is implemented correctly"', "initialisers")
def _will_decrease(m: Measurements) -> Judgement:
    falls = {name: m[name][0] - m[name][1] > UNFALLEN for name in ("xavier", "zeros")}
    return weighed(*falls.values()), (
        f"one proven implementation: from Xavier's weights {m['xavier'][0]:.2f} to {m['xavier'][1]:.2f}, "
        f"from zeros {m['zeros'][0]:.4f} to {m['zeros'][1]:.4f}"
    )


@BOOK.claim("time spent", "the parts add up to about 12 hours", "sums")
def _hours_spent(m: Measurements) -> Judgement:
    return weighed(m["hours_003"] == 12), f"their sum: {m['hours_003']}"
