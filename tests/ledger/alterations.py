"""For every claim, other measurements and the verdict they must give; for a pending one, figures for and against.

An alteration is a verdict, and either figures that replace the stored ones or a function that changes a copy of them.
"""

FELL = [9.2, 7.9, 6.9, 6.0] + [5.5] * 5 + [4.9] + [4.0] * 15 + [3.0]
STUCK = [9.2103] * 26


def without_order(m):
    """The doubled input lets other tokens through after all."""
    m["reach_doubled"] = 0.5


def zeros_learn(m):
    m["epoch_losses"][m["arms"].index("sgd")] = [9.2103, 9.0, 8.5]


def rate_one_frees(m):
    m["epoch_losses"][m["arms"].index("sgd_at_rate_1")] = [9.2103, 9.0, 8.5]


def mismatched_falls(m):
    m["epoch_losses"][m["arms"].index("gradient_between_embeddings")] = [9.2, 9.0, 8.5]


def doubled_falls(m):
    m["epoch_losses"][m["arms"].index("doubled_attention")] = [9.2, 9.0, 8.5]


def the_rule_is_slow(m):
    m["rule_over_product"] = [1.5] * len(m["pairs_d"])
    m["rule_once_over_product"] = [1.5] * len(m["pairs_d"])


def the_curve_speeds_the_lookup(m):
    m["lookup_by_curve"][0] = 1.3


def no_arm_is_better(m):
    m["verdicts"] = ["no difference shown"] * len(m["verdicts"])


ALTERATIONS = {
    "000-constant-loss": ("partly", zeros_learn),
    "000-weights-not-initialised": ("partly", doubled_falls),
    "000-rate-or-gradient-too-small": ("confirmed", rate_one_frees),
    "000-attention-oversimplified": ("confirmed", {"doubled_attention": [9.2103] * 4}),
    "000-no-clipping": ("confirmed", {"healthy": [9.2155] * 4}),
    "000-twice-the-input": ("refuted", {"x_plus_x_is_2x": False}),
    "000-only-per-token": ("refuted", without_order),
    "000-xavier-or-he": ("partly", {"constant": [6.42, 0.4]}),
    "000-he-starts-at-ln-v": ("confirmed", {"he": [6.42, 0.1]}),
    "000-gradient-band-for-trouble": ("confirmed", {"wrong_sign_largest": 200.0}),
    "000-typical-rates": ("confirmed", {"adam_losses": [6.3, 5.0, 3.0, 0.4, 0.5, 0.7, 4.3]}),
    "000-rate-too-small": ("refuted", {"rate_1e-12_weights_changed_share": 0.9}),
    "000-rate-0-001-too-small": ("confirmed", {"sgd": STUCK}),
    "000-rate-too-large": ("partly", {"sgd_losses": [6.3, 5.8, 3.5, 2.0, 1.0]}),
    "000-tokens-per-batch": ("refuted", {"tokens_per_batch": 124}),
    "000-batches-per-epoch": ("confirmed", {"batches_with_the_short_window": 10}),
    "000-batches-are-reasonable": ("refuted", {"adam": STUCK}),
    "000-stable-softmax": ("partly", {"naive_softmax_finite": True}),
    "000-loss-reading-is-true": ("partly", {"ln_10000": 6.4151}),
    "000-gradients-not-meaningful": ("confirmed", {"gradient_check_worst": 0.3}),
    "000-sgd-is-fine-for-testing": ("refuted", {"sgd": STUCK}),
    "000-sgd-is-suboptimal": ("refuted", {"adam": STUCK}),
    "000-prime-count": ("confirmed", {"composites": 0}),
    "000-cache-memory": ("refuted", {"bytes": 4_000_000}),
    "000-embedding-floats": ("refuted", {"embedding_floats": 312_832}),
    "000-largest-gradient-shows-zero": ("partly", {"zeros_gradient_largest": 0.2}),
    "000-first-hundred-numbers": (
        "confirmed",
        {"sample_line_all_other_rows_zero": "Sample embedding magnitude: 0.000000"},
    ),
    "000-reasonable-gradients": (
        "confirmed",
        {
            "xavier_largest_within_1e-4_to_1e-1": 1.0,
            "he_largest_within_1e-4_to_1e-1": 0.97,
            "documents_size_embedding_largest": 0.05,
        },
    ),
    "000-weight-update-test": ("partly", {"zeros_tensors_changed": 3}),
    "000-loss-sensitivity-test": ("partly", {"zeros_loss_change_when_perturbed": 0.4}),
    "000-full-attention-decreases-loss": ("confirmed", zeros_learn),
    "000-seven-and-a-half-in-one-epoch": ("partly", {"adam_first_epoch_steps": [9.2, 7.6]}),
    "000-five-after-ten-epochs": ("confirmed", {"sgd": FELL}),
    "000-generation-improves": ("refuted", {"trained_drawn_known_pairs": 0.05}),
    "000-cache-slows-startup": ("confirmed", {"cache_seconds": 4.0}),
    "000-idle-threads": ("partly", {"idle_threads_seconds": 0.5}),
    "000-training-blocks-ui": ("confirmed", {"longest_freeze_seconds": 60.0}),
    "000-startup-times": (
        "confirmed",
        {"original_cache_seconds": [4.7, 4.9], "before_seconds": 5.2, "after_seconds": 0.8},
    ),
    "000-ui-responsive": ("refuted", {"longest_freeze_seconds": 60.0}),
    "000-lattice-not-used": ("pending", {"c_sources": 12}),
    "000-lattice-reduces-epochs": ("refuted", no_arm_is_better),
    "001-doubled-input-is-the-root-cause": ("confirmed", zeros_learn),
    "001-doubled-input-cannot-learn": ("confirmed", {"loss_doubled": 6.3}),
    "001-no-mechanism-between-tokens": ("partly", without_order),
    "001-not-sequences": ("confirmed", {"loss_doubled": 1.3}),
    "001-attention-learns-relationships": ("partly", {"loss_sound": 0.9}),
    "001-attention-makes-loss-decrease": ("confirmed", zeros_learn),
    "001-five-thousand-gradients": ("confirmed", {"gradient_entries_when_tied": 5234}),
    "001-repetitive-before": ("confirmed", {"zeros_drawn_repetition": 0.3}),
    "001-varied-after": ("partly", {"trained_drawn_known_pairs": 0.1}),
    "001-loss-goes-down-the-stairs": ("confirmed", {"sgd": FELL}),
    "001-loss-decreases-over-epochs": ("refuted", {"sgd": STUCK, "adam": [9.0, 9.1, 9.2]}),
    "001-weights-above-a-thousandth": ("confirmed", {"constant_documents_size": [0.0, 0.0, 0.0]}),
    "001-thousands-of-gradients": ("confirmed", {"wrong_sign_gradients_not_zero": 0}),
    "001-six-steps": ("confirmed", {"change_of_first_position_by_last_as_written": 0.0}),
    "001-attention-is-essential": ("partly", {"without_attention": 1.5}),
    "001-weight-band": ("partly", {"xavier_documents_size": [0.02, 0.04, 0.03]}),
    "001-zero-weights-show": ("partly", {"zeros_weights": [0.1, 0.1, 0.1]}),
    "001-gradient-band": (
        "refuted",
        {"documents_size_embedding_average": 0.5, "documents_size_attention_largest": 0.5},
    ),
    "001-above-one-explodes": ("confirmed", {"he_norms_above_1": 0.0}),
    "001-below-a-millionth-vanishes": ("confirmed", {"shrunk_loss": [6.4169, 6.4169]}),
    "001-similarity-speedup": ("refuted", the_rule_is_slow),
    "001-locality-improvement": ("partly", the_curve_speeds_the_lookup),
    "001-reduction-speedup": ("partly", {"lll_new_basis": [3.0]}),
    "001-sorting-improves-learning": ("confirmed", {"sorted_loss_on_the_text": 0.1}),
    "001-model-should-now-learn": ("confirmed", zeros_learn),
    "001-ten-minutes": ("refuted", {"step_ours_10000": 74_000.0}),
    "001-before-about-five-seconds": ("confirmed", {"original_cache_seconds": [4.7, 4.9]}),
    "001-after-about-one-second": ("confirmed", {"original_makes_it_later": True}),
    "001-startup-under-two-seconds": ("refuted", {"after_seconds": 3.0}),
    "001-cache-slowed-the-start": ("refuted", {"original_cache_seconds": [0.01, 0.02]}),
    "002-four-point-one": ("confirmed", {"before": 4.18552}),
    "002-loss-from-ids-is-constant": ("partly", {"after": 3.1}),
    "002-new-constant-shows-the-forward-pass": ("confirmed", {"tensors_that_move_the_loss_alone": 2}),
    "002-all-layers-forward": ("pending", {"c_sources": 12}),
    "002-optimizer-updates-all": ("confirmed", {"tensors_changed": [28] * 8}),
    "002-another-constant": ("refuted", mismatched_falls),
    "002-mismatch-keeps-loss-constant": ("refuted", {"gradient_between_embeddings": [9.21, 9.1, 9.0, 8.9]}),
    "002-different-loss-functions": ("refuted", {"cosine_with_true_gradient": 0.8}),
    "002-parameters-change-without-effect": (
        "confirmed",
        {"gradient_between_embeddings_at_rate_10": [9.2155] * 4},
    ),
    "002-cross-entropy-formula": ("refuted", {"formula_beside_engine_error": 0.2}),
    "002-descent-decreases": ("confirmed", {"change_in_one_step_at_100": -0.5}),
    "002-one-falls-the-other-stays": ("confirmed", {"gradient_between_embeddings_at_rate_10": [9.2155] * 4}),
    "002-logits-gradient": ("refuted", {"gradient_error": 0.2}),
    "002-mse-gradient-formula": ("confirmed", {"formula_error_at_the_shared_table": 1e-9}),
    "002-mse-gives-no-model": ("partly", {"mse_cross_entropy": 1.0}),
    "002-updated-but-constant": ("partly", {"embeddings_changed": False}),
    "002-right-backward-enables": ("confirmed", zeros_learn),
    "002-right-gradient-betters-generation": ("refuted", {"mse_known_pairs": 0.9}),
    "002-quick-fix-matches": ("confirmed", {"quick_fix_over_formula": 1.0}),
    "002-hours-add-up": ("refuted", {"hours_002": [8, 10]}),
    "002-hours-taken": ("confirmed", {"hours_003": 9}),
    "002-hotkey": ("refuted", {"hotkey_stolen": True}),
    "003-mismatch-was-the-cause": ("confirmed", zeros_learn),
    "003-right-gradients-optimise": ("refuted", {"healthy": [9.2155] * 4}),
    "003-constant-before": ("refuted", mismatched_falls),
    "003-first-epoch-is-ln-v": ("confirmed", {"adam": STUCK, "sgd": STUCK}),
    "003-epoch-four": ("confirmed", {"sgd": FELL}),
    "003-epoch-twenty-six": ("confirmed", {"sgd": FELL}),
    "003-input-floats": ("refuted", {"input_embeddings_611": 65_000}),
    "003-layer-floats": ("refuted", {"layer_inputs_611": 100}),
    "003-hidden-floats": ("refuted", {"ff_hidden_611": 100}),
    "003-logit-floats": ("refuted", {"logits_611": 100}),
    "003-sum-of-floats": ("refuted", {"counted_611": 3_000_000}),
    "003-memory-of-a-batch": ("confirmed", {"held_10000": 2_109_824}),
    "003-vocabulary-of-611": ("confirmed", {"ln_vocabulary": 9.2103}),
    "003-cross-entropy-gradient": ("refuted", {"gradient_error": 0.2}),
    "003-softmax-gradient": ("confirmed", {"softmax_formula_as_gradient_error": 1e-10}),
    "003-layer-norm-gradient": ("refuted", {"error_with_corrections": 0.1}),
    "003-first-matrix-gradient": ("confirmed", {"dw1_error_hidden_after_tanh": 1e-10}),
    "003-second-matrix-gradient": ("refuted", {"dw2_error_hidden_after_tanh": 0.4}),
    "003-original-gradients-match": ("pending", {"c_sources": 12}),
    "003-original-updates": ("pending", {"c_sources": 12}),
    "003-forward-time": ("confirmed", {"forward_fastest": 15.0}),
    "003-backward-time": ("confirmed", {"backward_fastest": 20.0}),
    "003-batch-time": ("partly", {"bare_products_611": 20.0}),
    "003-epoch-time": ("confirmed", {"step_fastest_611": 40.0}),
    "003-times-add-up": ("partly", {"milliseconds_for_nine": [225, 400]}),
    "003-nine-batches": ("confirmed", {"pairs_in_full_batches": 1240}),
    "003-clipping-prevents-explosion": ("confirmed", {"sgd_clipped_rises": [0.0, 0.0]}),
    "003-loss-should-decrease": ("confirmed", doubled_falls),
    "003-forward-matches": ("confirmed", {"relative_difference": 1e-7}),
    "003-sgd-formula": ("refuted", {"error": 0.1}),
    "003-will-decrease": ("confirmed", {"zeros": [6.4151, 3.0]}),
    "003-hours-spent": ("refuted", {"hours_003": 13}),
    "004-can-train": (
        "confirmed",
        {"rule_004_adam_cross_entropy": 2.0, "rule_004_sgd_cross_entropy": 3.0},
    ),
    "004-sign-of-the-gradient": ("confirmed", {"formula_004_over_true": 1.0}),
    "004-embeddings-approach": (
        "confirmed",
        {"rule_004_sgd_distance": [0.04, 0.01], "rule_004_adam_distance": [0.04, 0.02]},
    ),
    "004-similarity-works": ("confirmed", {"similarity_cross_entropy": 2.0}),
    "004-should-be-cross-entropy": ("partly", {"similarity_cross_entropy": 2.0}),
    "004-layers-lack-a-backward-pass": ("confirmed", {"similarity_loss_answers_to_layers": 0.3}),
    "004-embeddings-alone-train": ("refuted", {"embeddings": [6.42, 6.4]}),
    "004-production-ready": ("confirmed", {"rule_004_adam_cross_entropy": 2.0}),
    "004-gradients-accumulate": ("refuted", {"accumulated_error": 0.5}),
    "004-accumulation-is-essential": ("refuted", {"overwritten_error": 1e-10}),
    "004-adam-as-published": ("confirmed", {"distance_to_adam_tiny": 1e-9}),
    "004-adam-settings": ("partly", {"default_betas": [0.9, 0.99]}),
    "004-bias-correction": ("refuted", {"distance_to_adam_ordinary": 0.1}),
    "004-gradient-checking-works": ("partly", {"broken_worst": 1e-9}),
    "004-completion": ("confirmed", {"completion_mean": 75.2}),
    "004-memory-is-safe": ("pending", {"c_sources": 12}),
    "004-build-is-clean": ("pending", {"c_sources": 12}),
    "004-forward-pass-is-complete": ("pending", {"c_sources": 12}),
    "004-same-pattern": ("confirmed", {"similarity_loss_answers_to_layers": 0.3}),
}

# Id -> (measurements that speak for the claim, measurements that speak against it).
PENDING: dict[str, tuple[dict, dict]] = {}
