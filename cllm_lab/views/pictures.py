"""The picture on the first screen of the README: one machine that is pinned, one that learns."""

from __future__ import annotations

import os

from cllm_lab.corpus.corpora import load_corpus
from cllm_lab.model.config import ModelConfig
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.config import TrainConfig
from cllm_lab.training.trainer import Trainer
from cllm_lab.views.curves import loss_curve

VOCAB_SIZE = 10_000
EPOCHS = 26
LEARNING_RATE = 3e-3


def readme_picture(path: str | os.PathLike[str], epochs: int = EPOCHS) -> str:
    """Trains both machines on the shipped corpus, writes the PNG and returns its words.

    Both have 10,000 rows, as in the documents, and differ in their initialisation alone; the one that starts
    from zeros stays at ln 10000. Some 20 seconds. Raises OSError as the file system does.
    """
    corpus = load_corpus("large")
    runs = {}
    for name, init in (("Xavier weights", "xavier"), ("all weights zero", "zeros")):
        model = Transformer(ModelConfig(vocab_size=VOCAB_SIZE, init=init))
        trainer = Trainer(model, corpus, TrainConfig(learning_rate=LEARNING_RATE))
        runs[name] = trainer.run(epochs=epochs, progress=False)
    picture = loss_curve(runs, corpus.plateaus(VOCAB_SIZE), title="Why does my model not learn?")
    picture.save(path)
    return picture.words
