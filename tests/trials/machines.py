"""What the tests of this room share: a machine that learns in moments, arms, and costs that do not depend on time."""

from cllm_lab.corpus.languages import InductionLanguage
from cllm_lab.trials.arm import Arm

LANGUAGE = InductionLanguage(n_symbols=4, block_length=2, n_tokens=1025)
MODEL = {"context_length": 8, "d_model": 16, "n_heads": 2, "n_layers": 2}
TRAIN = {"batch_size": 8, "sequence_length": 8, "validation_fraction": 0.25}
NO_ATTENTION = Arm("no attention", {"attention": "none"}, words="cannot find the copy")
TWIN = Arm("twin", words="the baseline again")
QUICK = {
    "model": MODEL,
    "train": TRAIN,
    "steps": 20,
    "validate_every": 5,
    "seeds": 2,
    "learning_rates": (3e-3, 1e-2),
    "tuning_seeds": 1,
}


def fixed_costs(descriptions, baseline):
    """A step of any machine costs one and a half of the baseline's through the parts, and half of one as it is run."""

    def cost(ratio):
        return {"low": 0.95 * ratio, "ratio": ratio, "high": 1.05 * ratio}

    return {
        "validation_seconds": 0.001,
        "machines": {
            name: {
                "seconds": 0.001,
                "parts": cost(1.0 if name == baseline else 1.5),
                "as_run": cost(1.0 if name == baseline else 0.5),
            }
            for name in descriptions
        },
    }


def silent(line):
    """A report that nobody reads."""
