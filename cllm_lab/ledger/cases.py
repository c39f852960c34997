"""The case files: the symptom of each, the cause that a document supposes, the claims and the faults it treats."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """A case file.

    ``number`` and ``slug``: of its notebook. ``symptom``: as it was reported. ``cause``: what a document supposes or
    announces. ``claims``: ids of the ledger, first the one that states that cause. ``faults``: ids of the catalogue.
    """

    number: int
    slug: str
    symptom: str
    cause: str
    claims: tuple[str, ...]
    faults: tuple[str, ...] = ()

    @property
    def notebook(self) -> str:
        """The name of its file."""
        return f"{self.number:02d}_{self.slug}.ipynb"


CASES = (
    Case(
        10,
        "the_number",
        '"loss = 9.2103", epoch after epoch',
        "none in the loss computation: 9.2103 is a true reading (000)",
        (
            "000-loss-reading-is-true",
            "000-constant-loss",
            "003-constant-before",
            "003-vocabulary-of-611",
            "003-first-epoch-is-ln-v",
        ),
    ),
    Case(
        11,
        "another_constant",
        "4.1855 in every epoch; two repairs later, 9.2103 in every epoch",
        "the new constant shows that the loss now uses the forward pass (002)",
        (
            "002-new-constant-shows-the-forward-pass",
            "002-four-point-one",
            "002-loss-from-ids-is-constant",
            "002-all-layers-forward",
            "004-similarity-works",
        ),
        ("loss-ignores-model", "embedding-similarity-loss", "skipped-layers"),
    ),
    Case(
        12,
        "most_weights_stay",
        'none: "the model can now actually train"',
        "all that is missing is the backward passes of the layers (004)",
        (
            "004-layers-lack-a-backward-pass",
            "004-can-train",
            "004-sign-of-the-gradient",
            "004-embeddings-approach",
            "004-embeddings-alone-train",
            "004-same-pattern",
            "004-production-ready",
            "004-adam-as-published",
            "002-optimizer-updates-all",
            "000-weight-update-test",
        ),
        ("embeddings-only-backward", "embeddings-only-update", "wrong-sign", "wrong-sign-embeddings"),
    ),
    Case(
        13,
        "gradients_that_lead_nowhere",
        "9.2103 in every epoch, although gradients are computed and parameters change",
        "the gradients are those of another loss (002, 003)",
        (
            "003-mismatch-was-the-cause",
            "002-mismatch-keeps-loss-constant",
            "002-different-loss-functions",
            "002-parameters-change-without-effect",
            "002-right-backward-enables",
            "002-mse-gives-no-model",
        ),
        ("mse-gradient", "mse-loss"),
    ),
    Case(
        14,
        "it_learns_and_stops_short",
        "9.2103 in every epoch; repetitive text",
        "the simplified attention only doubles its input (000, 001)",
        (
            "001-doubled-input-is-the-root-cause",
            "001-doubled-input-cannot-learn",
            "001-no-mechanism-between-tokens",
            "001-not-sequences",
            "000-only-per-token",
            "000-gradients-not-meaningful",
        ),
        ("doubled-attention",),
    ),
    Case(
        15,
        "nothing_moves",
        "9.2103 after every repair",
        "weights that are not initialised properly (000, the first of four suspicions)",
        (
            "000-weights-not-initialised",
            "000-rate-or-gradient-too-small",
            "001-zero-weights-show",
            "000-xavier-or-he",
            "000-full-attention-decreases-loss",
            "001-attention-makes-loss-decrease",
            "002-updated-but-constant",
        ),
        ("zero-init", "zero-init-lattice", "constant-init"),
    ),
    Case(
        16,
        "instruments_that_lie",
        '"Max gradient magnitude: 0.000000", while the loss falls',
        "thousands of non-zero gradients prove a good backward pass (001)",
        (
            "001-thousands-of-gradients",
            "001-five-thousand-gradients",
            "001-weights-above-a-thousandth",
            "001-gradient-band",
            "000-reasonable-gradients",
            "000-first-hundred-numbers",
            "000-largest-gradient-shows-zero",
        ),
        ("nan-counted-as-zero", "first-rows-instrument"),
    ),
    Case(
        17,
        "too_wild_or_too_slow",
        '"No weight updates", "Divergence or oscillation"',
        "the gradients are not clipped (000)",
        (
            "000-no-clipping",
            "003-clipping-prevents-explosion",
            "000-rate-too-large",
            "000-rate-too-small",
            "000-rate-0-001-too-small",
            "000-typical-rates",
            "001-above-one-explodes",
            "001-below-a-millionth-vanishes",
        ),
        ("no-clipping", "learning-rate-high", "learning-rate-low", "vanishing-gradient"),
    ),
    Case(
        18,
        "looking_the_wrong_way",
        "none: proper attention was announced as done",
        "its six steps are all that proper attention needs (001)",
        ("001-six-steps", "001-attention-learns-relationships", "000-stable-softmax"),
        ("no-causal-mask", "strided-heads", "signed-exp-softmax"),
    ),
    Case(
        19,
        "attention_that_never_learns",
        "none: the loss falls, with attention in place",
        "with proper attention the relationships of tokens are learned (001)",
        (
            "001-attention-learns-relationships",
            "001-attention-is-essential",
            "003-original-gradients-match",
            "003-loss-should-decrease",
            "004-embeddings-alone-train",
        ),
        ("attention-backward-missing", "attention-backward-outer"),
    ),
    Case(
        20,
        "too_good_to_be_true",
        "none: the loss falls",
        "reading the tokens by spiral locality improves learning (001)",
        (
            "001-sorting-improves-learning",
            "001-locality-improvement",
            "003-nine-batches",
            "000-batches-per-epoch",
        ),
        ("token-sorting", "case-mismatch", "dropped-remainder", "unshuffled-batches"),
    ),
    Case(
        21,
        "the_full_repair",
        '"different from before but still CONSTANT"',
        "with attention repaired the model should learn (001)",
        (
            "001-model-should-now-learn",
            "003-loss-should-decrease",
            "003-will-decrease",
            "001-loss-goes-down-the-stairs",
            "000-five-after-ten-epochs",
            "003-epoch-twenty-six",
            "001-varied-after",
        ),
    ),
    Case(
        22,
        "mystery_cases",
        "none: somebody hands you a machine",
        "weights that are not zero and gradients that are not zero are the proof (001)",
        (
            "001-weights-above-a-thousandth",
            "001-thousands-of-gradients",
            "001-zero-weights-show",
            "000-weight-update-test",
            "000-loss-sensitivity-test",
            "004-gradient-checking-works",
        ),
        ("tied-gradient-dropped", "tied-gradient-on-targets"),
    ),
)
