"""Document 000: the analysis of attention, its five causes, its bands, its plan and what it expects."""

from __future__ import annotations

from cllm_lab.ledger.claim import CONFIRMED, REFUTED, Book, Judgement, Measurements, shown, weighed, within
from cllm_lab.ledger.claims.common import (
    FELT,
    NEAR_UNIFORM,
    PRINTED,
    SMALL_ERROR,
    SYMPTOM,
    UNFALLEN,
    arm,
    pinned,
    quoted_cache,
    unseen,
)

BOOK = Book("000")


@BOOK.claim("problem", 'the loss "stays constant at 9.2103 across all epochs"', "zero-weights")
def _constant_loss(m: Measurements) -> Judgement:
    losses, largest = arm(m, "sgd"), m["largest_gradient_norms"][m["arms"].index("sgd")]
    return weighed(pinned(losses), largest == 0.0), (
        f"a sound engine whose weights are all zero prints {shown(losses)}, largest gradient norm "
        f"{largest:g}; ln 10000 = {m['ln_10000']:.4f}"
    )


@BOOK.claim("root cause 1", "weights may not be initialised properly", "zero-weights")
def _weights_not_initialised(m: Measurements) -> Judgement:
    held = [pinned(losses) for losses in m["epoch_losses"]]
    return weighed(*held), (
        f"zero weights hold the printed loss at 9.2103 in {sum(held)} of {len(held)} machines, which differ "
        "in optimizer, rate, clipping, attention and gradient"
    )


@BOOK.claim("root cause 2", "the gradients may be too small, or the learning rate", "zero-weights")
def _rate_or_gradient_too_small(m: Measurements) -> Judgement:
    zero_gradient = max(m["largest_gradient_norms"]) == 0.0
    rate_frees = not pinned(arm(m, "sgd_at_rate_1"))
    return weighed(zero_gradient, rate_frees), (
        f"where the loss is 9.2103 the largest gradient norm is {max(m['largest_gradient_norms']):g}; at "
        f"rate 1, a thousand times the documents', the epochs are {shown(arm(m, 'sgd_at_rate_1'))}"
    )


@BOOK.claim("root cause 3", "the oversimplified attention keeps the loss constant", "blamed-causes")
def _attention_oversimplified(m: Measurements) -> Judgement:
    losses = m["doubled_attention"]
    constant = max(losses) - min(losses) <= PRINTED
    return weighed(constant, pinned(losses)), (
        f"with real weights and the doubled input the loss goes {shown(losses)}"
    )


@BOOK.claim("root cause 4", "the lack of gradient clipping keeps the loss constant", "blamed-causes")
def _no_clipping(m: Measurements) -> Judgement:
    without, clipped = m["healthy"], m["clipped"]
    return (CONFIRMED if without[0] - without[-1] < UNFALLEN else REFUTED), (
        f"without clipping the loss falls from {without[0]:.4f} to {without[-1]:.4f} in three epochs, with "
        f"it to {clipped[-1]:.4f}"
    )


@BOOK.claim(
    "section 1", "copying the input and adding it again gives exactly twice the input", "doubled-attention"
)
def _twice_the_input(m: Measurements) -> Judgement:
    return weighed(m["x_plus_x_is_2x"]), f"x + x equals 2x bit by bit in float32: {m['x_plus_x_is_2x']}"


@BOOK.claim(
    "section 1, impact",
    "the model cannot learn relationships between tokens, only per-token ones",
    "doubled-attention",
)
def _only_per_token(m: Measurements) -> Judgement:
    return weighed(m["reach_doubled"] == 0.0 < m["reach_sound"]), (
        f"replacing a token changes another position's logits by {m['reach_doubled']:g} with the doubled "
        f"input and by up to {m['reach_sound']:.2f} with attention"
    )


@BOOK.claim("section 2", "initialisation should be Xavier's or He's, not zeros or constants", "initialisers")
def _xavier_or_he(m: Measurements) -> Judgement:
    good = [m[name][1] < m["bigram"] for name in ("xavier", "he")]
    bad = [m[name][1] > m["bigram"] for name in ("zeros", "constant")]
    figures = ", ".join(
        f"{name} {m[name][0]:.2f} to {m[name][1]:.2f}" for name in ("xavier", "he", "zeros", "constant")
    )
    return weighed(*good, *bad), f"loss over 20 epochs: {figures}; bigram entropy {m['bigram']:.2f}"


@BOOK.claim(
    "section 2", "He's initialisation is as good a start as Xavier's (both named as proper)", "initialisers"
)
def _he_starts_at_ln_v(m: Measurements) -> Judgement:
    near = [abs(m[name][0] / m["uniform"] - 1.0) < NEAR_UNIFORM for name in ("xavier", "he")]
    return weighed(*near), (
        f"first losses {m['xavier'][0]:.2f} (Xavier) and {m['he'][0]:.2f} (He) against ln V = "
        f"{m['uniform']:.2f}, output tied to the embeddings"
    )


@BOOK.claim("section 3", "gradients below 1e-6 or above 100 are the sign of trouble", "gradient-bands")
def _gradient_band_for_trouble(m: Measurements) -> Judgement:
    sound = [within(figure, 1e-6, 100.0) for init in ("xavier", "he") for figure in m[f"{init}_largest"]]
    caught = not within(m["wrong_sign_largest"], 1e-6, 100.0)
    return weighed(all(sound), caught), (
        f"largest embedding gradient of sound runs {m['xavier_largest'][0]:.2g} to "
        f"{m['he_largest'][1]:.2g}; of a machine with every sign wrong, whose loss goes from "
        f"{m['wrong_sign_loss'][0]:.2f} to {m['wrong_sign_loss'][1]:.2f}, {m['wrong_sign_largest']:.2g}"
    )


@BOOK.claim("section 4", "typical learning rates for transformers are 1e-4 to 1e-3", "learning-rates")
def _typical_rates(m: Measurements) -> Judgement:
    losses = dict(zip(m["adam_rates"], m["adam_losses"], strict=True))
    best = min(losses, key=losses.__getitem__)
    # Half a nat in 20 epochs is a slow start, but one that is seen.
    learns = all(m["start"] - losses[rate] > 0.5 for rate in (1e-4, 1e-3))
    return weighed(learns, within(best, 1e-4, 1e-3)), (
        f"Adam, 20 epochs, d_model 64: {losses[1e-4]:.2f} at 1e-4 and {losses[1e-3]:.2f} at 1e-3, best "
        f"{losses[best]:.2f} at {best:g}"
    )


@BOOK.claim("section 4", "too small a rate, such as 1e-12: no weight updates", "learning-rates")
def _rate_too_small(m: Measurements) -> Judgement:
    share = m["rate_1e-12_weights_changed_share"]
    return weighed(share == 0.0 < m["rate_1e-12_gradient_norm"]), (
        f"at rate 1e-12 a step with gradient norm {m['rate_1e-12_gradient_norm']:.2f} changes {share:.0%} "
        "of the float32 weights"
    )


@BOOK.claim("section 4", "the rate 0.001 may be too small for weight updates", "documents-size-runs")
def _rate_0_001_too_small(m: Measurements) -> Judgement:
    losses = m["sgd"]
    return (REFUTED if losses[0] - losses[-1] > UNFALLEN else CONFIRMED), (
        f"at the documents' size SGD at {m['sgd_learning_rate']:g} moves the loss from {losses[0]:.2f} to "
        f"{losses[-1]:.2f} in {len(losses)} epochs"
    )


@BOOK.claim("section 4", "too large a rate: divergence or oscillation", "learning-rates")
def _rate_too_large(m: Measurements) -> Judgement:
    diverged = m["sgd_losses"][-1] is None
    oscillated = m["sgd_rises"][-2] > 1.0
    return weighed(diverged, oscillated), (
        f"SGD at {m['sgd_rates'][-2]:g} rises by {m['sgd_rises'][-2]:.1f} nats on the way; at "
        f"{m['sgd_rates'][-1]:g} it "
        + ("ends in numbers that are not finite" if diverged else "stays finite")
    )


@BOOK.claim("section 5", "a batch of 4 windows of 32 has 128 tokens", "sizes")
def _tokens_per_batch(m: Measurements) -> Judgement:
    return weighed(m["tokens_per_batch"] == 128), f"counted: {m['tokens_per_batch']}"


@BOOK.claim("section 5", "1241 tokens make about 9 to 10 batches an epoch", "sizes")
def _batches_per_epoch(m: Measurements) -> Judgement:
    counts = (m["full_batches"], m["batches_with_the_partial_one"], m["batches_with_the_short_window"])
    return weighed(counts[0] == 9, counts[1] == 10, counts[2] in (9, 10)), (
        f"{m['tokens']} tokens: {m['full_windows']} full windows make {counts[0]} full batches, {counts[1]} "
        f"with the partial one, {counts[2]} with the short last window"
    )


@BOOK.claim("section 5", "batch size and corpus size are reasonable, not the issue", "documents-size-runs")
def _batches_are_reasonable(m: Measurements) -> Judgement:
    return weighed(m["adam"][-1] < 1.0), (
        f"with exactly these batches the documents' size reaches {m['adam'][-1]:.2f} nats in "
        f"{len(m['adam'])} epochs"
    )


@BOOK.claim("section 6", "subtracting the maximum makes the softmax stable", "cross-entropy")
def _stable_softmax(m: Measurements) -> Judgement:
    return weighed(m["softmax_with_maximum_finite"], not m["naive_softmax_finite"]), (
        f"a logit of 1000 in float32: finite with it {m['softmax_with_maximum_finite']}, without it "
        f"{m['naive_softmax_finite']}"
    )


@BOOK.claim("section 6", "no issue in the loss computation: 9.2103 is a true reading", "zero-weights")
def _loss_reading_is_true(m: Measurements) -> Judgement:
    return weighed(abs(m["ln_10000"] - SYMPTOM) <= PRINTED, pinned(arm(m, "sgd"))), (
        f"equal logits over 10,000 rows cost ln 10000 = {m['ln_10000']:.6f}, which is what a proven loss prints"
    )


@BOOK.claim(
    "section 7", "through the simplified attention the gradients may not be meaningful", "doubled-attention"
)
def _gradients_not_meaningful(m: Measurements) -> Judgement:
    worst = m["gradient_check_worst"]
    return (REFUTED if worst < SMALL_ERROR else CONFIRMED), (
        f"the gradients of the machine that doubles its input agree with finite differences to {worst:.0e}; "
        f"its loss reaches {m['loss_doubled']:.2f}"
    )


@BOOK.claim("section 8", "no momentum, no Adam: fine for testing", "documents-size-runs")
def _sgd_is_fine_for_testing(m: Measurements) -> Judgement:
    losses = m["sgd"]
    return weighed(losses[0] - losses[2] > UNFALLEN), (
        f"SGD at {m['sgd_learning_rate']:g} shows a fall within three epochs: {shown(losses[:3])}"
    )


@BOOK.claim("section 8", "no momentum, no Adam: suboptimal", "documents-size-runs")
def _sgd_is_suboptimal(m: Measurements) -> Judgement:
    return weighed(m["adam"][-1] < m["sgd"][-1]), (
        f"after {len(m['sgd'])} epochs at the documents' size: SGD {m['sgd'][-1]:.2f}, Adam {m['adam'][-1]:.2f}"
    )


@BOOK.claim("startup", "the embeddings are 5,120,000 floats", "sizes")
def _embedding_floats(m: Measurements) -> Judgement:
    return weighed(m["embedding_floats"] == 5_120_000), f"10,000 rows of 512: {m['embedding_floats']:,}"


@BOOK.claim("startup", "23,094 primes are generated", "lattice-primes")
def _prime_count(m: Measurements) -> Judgement:
    return weighed(m["entries"] == 23_094, m["composites"] == 0), (
        f"the original's rules give {m['entries']:,} entries to {m['limit']:,}, {m['composites']:,} of them "
        f"composite; of the {m['primes']:,} primes there are, they miss {m['missed']:,}"
    )


@BOOK.claim("startup", "the prime cache takes 1.41 MB", "lattice-primes")
def _cache_memory(m: Measurements) -> Judgement:
    binary, decimal = m["bytes"] / 2**20, m["bytes"] / 1e6
    of_composites = m["composites"] * m["bytes_an_entry"] / 2**20
    return weighed(abs(binary - 1.41) < 0.005), (
        f"{m['entries']:,} entries of {m['bytes_an_entry']} bytes are {binary:.2f} MB of 2^20 bytes, "
        f"{decimal:.2f} of 10^6; {of_composites:.2f} MB of it belong to entries that are no primes"
    )


@BOOK.claim("root cause 5, startup", "pre-calculating the primes makes the start slow", "startup-times")
def _cache_slows_startup(m: Measurements) -> Judgement:
    original = m["original_cache_seconds"]
    return weighed(min(original) > FELT, m["cache_seconds"] > FELT), (
        f"{quoted_cache(m)}; here the same {m['entries']:,} entries take {m['cache_seconds']:.3f} s: what is "
        "slow is how it is calculated, not that it is calculated beforehand"
    )


@BOOK.claim("startup", "idle threads are an overhead without benefit", "startup-times")
def _idle_threads(m: Measurements) -> Judgement:
    return weighed(m["idle_threads_seconds"] > FELT, m["idle_threads_work_ratio"] > 1.1), (
        f"three idle threads take {m['idle_threads_seconds']:.4f} s to make, and other work takes "
        f"{m['idle_threads_work_ratio']:.2f} times as long beside them"
    )


@BOOK.claim("UI", "the training thread blocks the interface", "live-bench")
def _training_blocks_ui(m: Measurements) -> Judgement:
    own, other = m["longest_freeze_blocking_seconds"], m["longest_freeze_seconds"]
    return weighed(own > 1.0, other > 1.0), (
        f"an epoch of {m['parameters'] / 1e6:.0f} M parameters in the interface's own thread holds a button up for "
        f"{own:.1f} s of its {m['cell_seconds']:.1f} s; in a thread of its own, for {other:.2f} s at most"
    )


@BOOK.claim(
    "priority 2",
    "the largest embedding gradient verifies that gradients are not zero",
    "documents-diagnostics",
)
def _largest_gradient_shows_zero(m: Measurements) -> Judgement:
    return weighed(m["sound_gradient_largest"] > 0.0, m["zeros_gradient_largest"] == 0.0), (
        f"largest gradient {m['sound_gradient_largest']:.6f} on a sound machine, "
        f"{m['zeros_gradient_largest']:.6f} on one of zeros"
    )


@BOOK.claim(
    "priority 3",
    "the mean of the first 100 embedding numbers shows that weights are not zeros",
    "documents-diagnostics",
)
def _first_hundred_numbers(m: Measurements) -> Judgement:
    told_apart = m["zeros_sample_line"].endswith(" 0.000000") and not m["sound_sample_line"].endswith(
        " 0.000000"
    )
    misled = m["sample_line_all_other_rows_zero"].endswith(" 0.000000")
    return weighed(told_apart, misled), (
        f"it prints {m['zeros_sample_line'].rpartition(' ')[2]} for zeros and "
        f"{m['sound_sample_line'].rpartition(' ')[2]} for Xavier; at 512 wide it sees "
        f"{m['rows_in_the_sample_at_documents_size']} row, padding: with every other row zero it prints "
        f"{m['sample_line_all_other_rows_zero'].rpartition(' ')[2]}"
    )


@BOOK.claim("test 1", "reasonable gradients lie in 1e-4 to 1e-1", "gradient-bands")
def _reasonable_gradients(m: Measurements) -> Judgement:
    inside = [m[f"{init}_largest_within_1e-4_to_1e-1"] for init in ("xavier", "he")]
    averages = all(within(figure, 1e-4, 1e-1) for init in ("xavier", "he") for figure in m[f"{init}_average"])
    documents_size = m["documents_size_embedding_largest"]
    return weighed(min(inside) > 0.95, averages, within(documents_size, 1e-4, 1e-1)), (
        f"over two sound runs the largest embedding gradient lies inside in {inside[0]:.0%} and "
        f"{inside[1]:.0%} of the readings (up to {m['xavier_largest'][1]:.2f}), its mean size from "
        f"{m['xavier_average'][0]:.1e} to {m['xavier_average'][1]:.1e}; the largest of a first step at the "
        f"documents' size is {documents_size:.2f}"
    )


@BOOK.claim(
    "test 2", "comparing weights before and after a step shows whether they change", "documents-diagnostics"
)
def _weight_update_test(m: Measurements) -> Judgement:
    return weighed(m["sound_tensors_changed"] == m["tensors"], m["zeros_tensors_changed"] == 0), (
        f"after a step {m['sound_tensors_changed']} of {m['tensors']} tensors differ on a sound machine, "
        f"{m['zeros_tensors_changed']} on one of zeros"
    )


@BOOK.claim("test 3", "perturbing weights shows whether the loss depends on them", "documents-diagnostics")
def _loss_sensitivity_test(m: Measurements) -> Judgement:
    sound, zeros = m["sound_loss_change_when_perturbed"], m["zeros_loss_change_when_perturbed"]
    # A float32 loss of 9 resolves 1e-6.
    return weighed(sound > 1e-6, zeros < 1e-6), (
        f"perturbed embeddings change the loss by {sound:.2f} on a sound machine and by {zeros:g} on one of "
        "zeros"
    )


@BOOK.claim("test 4", "implement full attention and the loss decreases", "zero-weights")
def _full_attention_decreases_loss(m: Measurements) -> Judgement:
    losses = arm(m, "sgd")
    return (REFUTED if pinned(losses) else CONFIRMED), (
        f"with full, proven attention and weights of zero the epochs are {shown(losses)}"
    )


@BOOK.claim("expected outcomes", "from 9.2 to about 7.5 in the first epoch", "documents-size-runs")
def _seven_and_a_half_in_one_epoch(m: Measurements) -> Judgement:
    reached = {name: m[f"{name}_first_epoch_steps"][-1] for name in ("adam", "sgd")}
    # "About": within half a nat, half of what separates the document's own next figures.
    return weighed(reached["sgd"] <= 8.0, reached["adam"] <= 8.0), (
        f"the first epoch's last step is {reached['adam']:.2f} with Adam and {reached['sgd']:.2f} with SGD "
        f"at 0.001; the epoch's mean {m['adam'][0]:.2f} and {m['sgd'][0]:.2f}"
    )


@BOOK.claim("expected outcomes", "about 5.0 after 10 epochs", "documents-size-runs")
def _five_after_ten_epochs(m: Measurements) -> Judgement:
    return weighed(m["sgd"][9] <= 5.0, m["adam"][9] <= 5.0), (
        f"epoch 10: Adam at {m['adam_learning_rate']:g} {m['adam'][9]:.2f}, the documents' SGD at "
        f"{m['sgd_learning_rate']:g} {m['sgd'][9]:.2f}"
    )


@BOOK.claim("expected outcomes", "generation quality improves with a falling loss", "generation")
def _generation_improves(m: Measurements) -> Judgement:
    before, after = m["untrained_drawn_known_pairs"], m["trained_drawn_known_pairs"]
    return weighed(after > before + 0.1), (
        f"share of drawn word pairs that stand in the corpus: {before:.0%} before training, {after:.0%} after"
    )


@BOOK.claim("expected outcomes", "startup falls from about 5 s to about 1 s", "startup-times")
def _startup_times(m: Measurements) -> Judgement:
    optimised, as_built = m["original_cache_seconds"]
    return weighed(
        within(optimised, 4.0, 6.0),
        within(as_built, 4.0, 6.0),
        within(m["after_seconds"], 0.0, 1.5),
        m["before_seconds"] - m["after_seconds"] > FELT,
    ), (
        f"{quoted_cache(m)}; here a bench opens {m['after_seconds']:.2f} s after Python was started, "
        f"{m['before_seconds']:.2f} s with the cache made beforehand"
    )


@BOOK.claim("expected outcomes", "the interface stays responsive during training", "live-bench")
def _ui_responsive(m: Measurements) -> Judgement:
    return weighed(m["longest_freeze_seconds"] < 0.5), (
        f"while the bench here trains {m['parameters'] / 1e6:.0f} M parameters, 1 + 1 is answered in "
        f"{m['answer_seconds']:.3f} s, and no answer and no button takes longer than "
        f"{m['longest_freeze_seconds']:.2f} s"
    )


@BOOK.claim("crystalline", "the crystalline algorithms are not used in training", "original-program")
def _lattice_not_used(m: Measurements) -> Judgement:
    return unseen(m, "what the original's training loop calls")


@BOOK.claim("crystalline", "a crystalline approach may reduce the epochs needed", "lattice-training")
def _lattice_reduces_epochs(m: Measurements) -> Judgement:
    fewer = [
        place
        for place, (verdict, ratio) in enumerate(zip(m["verdicts"], m["steps_ratios"], strict=True))
        if verdict == "better" and ratio is not None and ratio < 1.0
    ]
    own = [place for place in fewer if m["controls_beaten"][place] == m["controls"][place] > 0]
    harmful = {
        arm for arm, verdict in zip(m["arms"], m["verdicts"], strict=True) if verdict in ("worse", "diverged")
    }
    harmless = {m["arms"][place] for place in own} - harmful
    in_time = [place for place in fewer if m["verdicts_at_equal_time"][place] == "better"]
    worse = m["verdicts"].count("worse")
    # 0 where the baseline does not reach its own mean level in most pairs.
    ratios = [ratio for place in fewer if (ratio := m["steps_ratios"][place]) > 0.0]
    span = (
        f", where it can be said with {min(ratios):.2f} to {max(ratios):.2f} of the steps" if ratios else ""
    )
    names = ", ".join(f"{m['arms'][place]} ({m['corpora'][place]})" for place in own)
    return weighed(bool(fewer), bool(own), bool(harmless)), (
        f"{len(set(m['arms']))} arms on {len(set(m['corpora']))} corpora, {m['pairs']} paired seeds, "
        f"{m['steps']} steps, tuned alike: {len(fewer)} of {len(m['arms'])} reach the baseline's level earlier and "
        f"a lower loss{span}, {len(in_time)} of them at equal time too; {worse} are worse. "
        f"{len(own)} beat all their controls"
        + (
            f": {names}; arms among these that harm nowhere: {', '.join(sorted(harmless)) or 'none'}"
            if own
            else ""
        )
        + f"; {m['controls_better']} of {m['control_rows']} controls, without number theory, beat the baseline. "
        f"An effect of {m['detectable']:.2g} nats would be found"
    )
