"""Every text and every size that a new run is offered makes a machine."""

from dataclasses import replace

import pytest

import cllm_lab as lab
from cllm_lab.corpus.corpora import Corpus
from cllm_lab.corpus.source import CorpusError
from cllm_lab.model.config import ConfigError, ModelConfig
from cllm_lab.views.live.presets import AS_IT_IS, CORPORA, SIZES, chosen, first_setup
from tests.views.live.runs import small_setup

SMALL = [name for name in SIZES if name != "documents' size"]


def new(setup, corpus=AS_IT_IS, size=AS_IT_IS, seed=0, held_out=0.0):
    return replace(setup, **chosen(setup, corpus, size, seed, held_out))


def test_the_first_setup_is_the_shipped_text_and_the_default_machine():
    setup = first_setup()
    assert setup.corpus.description() == lab.load_corpus("large").description()
    assert setup.model == ModelConfig(vocab_size=setup.corpus.vocab_size)
    assert setup.epochs is None and setup.faults == ()


def test_what_stays_as_it_is_stays_whole():
    model = ModelConfig(vocab_size=9, context_length=8, d_model=8, n_heads=2, n_layers=1, d_ff=11)
    setup = small_setup(model=model, faults=(lab.faults.catalogue()["wrong-sign"],), epochs=3)
    assert new(setup) == setup


@pytest.mark.parametrize("corpus", CORPORA)
@pytest.mark.parametrize("size", SMALL)
def test_every_text_makes_a_machine_of_every_small_size(corpus, size):
    setup = new(first_setup(), corpus, size, seed=3, held_out=0.1)
    trainer = setup.trainer()
    assert trainer.model.config.vocab_size == setup.corpus.vocab_size
    assert {name: getattr(setup.model, name) for name in SIZES[size]} == dict(SIZES[size])
    assert setup.model.d_ff == 4 * setup.model.d_model
    assert setup.seed == setup.train.seed == 3 and setup.train.validation_fraction == 0.1
    assert len(trainer.corpus.validation_tokens(0.1)) > 0


@pytest.mark.parametrize("corpus", [*CORPORA, AS_IT_IS])
def test_the_documents_size_holds_every_text(corpus):
    setup = new(first_setup(), corpus, "documents' size")
    assert (setup.model.d_model, setup.model.n_heads, setup.model.n_layers) == (512, 8, 6)
    assert setup.model.vocab_size == max(10_000, setup.corpus.vocab_size)


def test_the_machine_of_the_documents_size_can_be_made():
    machine = new(first_setup(), size="documents' size").machine()
    assert machine.params["token_embedding"].size == 5_120_000


def test_the_texts_are_the_ones_that_their_names_say():
    named = {name: make() for name, make in CORPORA.items()}
    assert [(each.name, each.tokenizer_name) for each in named.values()] == [
        ("large", "word"),
        ("large", "char"),
        ("pydoc", "word"),
        (None, "symbol"),
        (None, "symbol"),
    ]
    assert named["copied blocks"] == lab.InductionLanguage(n_symbols=8)
    assert named["Markov chain"] == lab.MarkovLanguage()


def test_another_text_has_its_own_rows_and_another_size_those_of_the_text():
    setup = small_setup(model=replace(small_setup().model, vocab_size=9))
    assert new(setup, corpus="copied blocks").model.vocab_size == 8
    assert new(setup, size="d=32, 1 layer").model.vocab_size == 5
    assert new(setup, seed=1).model.vocab_size == 9


def test_a_size_keeps_the_choices_that_it_does_not_name():
    model = replace(small_setup().model, norm="post", activation="gelu", d_ff=11)
    setup = new(small_setup(model=model), size="d=32, 1 layer")
    assert (setup.model.norm, setup.model.activation, setup.model.d_ff) == ("post", "gelu", 128)
    assert setup.model.context_length == 8


def test_a_seed_or_a_share_that_cannot_work_is_refused():
    with pytest.raises(ConfigError, match="seed"):
        new(small_setup(), seed=-1)
    with pytest.raises(CorpusError, match="validation_fraction must lie in"):
        new(small_setup(), held_out=1.0)
    short = Corpus.from_text("a b c d e f g h i j")
    setup = small_setup(corpus=short, model=replace(small_setup().model, vocab_size=short.vocab_size))
    with pytest.raises(CorpusError, match="leaves 1 of 10 tokens"):
        new(setup, held_out=0.9)


def test_a_text_of_more_tokens_than_the_size_has_rows_gets_its_own():
    text = Corpus.from_text(" ".join(f"w{number}" for number in range(10_001)))
    setup = small_setup(corpus=text, model=replace(small_setup().model, vocab_size=text.vocab_size))
    assert new(setup, size="documents' size").model.vocab_size == text.vocab_size > 10_000
