import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.corpus.corpora import Corpus
from cllm_lab.corpus.source import CorpusError
from cllm_lab.model.transformer import Transformer
from cllm_lab.training.generation import generate, generated_tokens, repetition
from tests.training.machines import LANGUAGE, TABLES, TEXT, make_model, make_trainer

SPECIALS = len(TEXT.special_ids)
WORDS = TEXT.vocab_size - SPECIALS


@pytest.fixture(scope="module")
def model():
    """A machine that has learned something, so that its logits are well apart."""
    trainer = make_trainer()
    trainer.run(epochs=8)
    return trainer.model


def new_tokens(text, prompt, corpus=TEXT):
    """The ids that were generated after the prompt."""
    assert text.startswith(prompt)
    return corpus.encode(text[len(prompt) :]).tolist()


def allowed_logits(model, tokens):
    logits = model.forward([tokens[-model.config.context_length :]]).logits[0, -1].astype(np.float64)
    logits[:SPECIALS] = -np.inf
    logits[TEXT.vocab_size :] = -np.inf
    return logits


def test_greedy_takes_the_largest_logit_each_time(model):
    prompt = "the sky"
    tokens = TEXT.encode(prompt).tolist()
    # The window slides: 2 + 15 tokens are more than the 8 that the model sees.
    for _ in range(15):
        tokens.append(int(np.argmax(allowed_logits(model, tokens))))
    text = generate(model, TEXT, prompt, 15, temperature=0)
    assert new_tokens(text, prompt) == tokens[2:]
    assert len(set(tokens)) > 2


def test_greedy_does_not_depend_on_the_seed(model):
    texts = {generate(model, TEXT, "the sky", 12, temperature=0.0, seed=seed) for seed in range(5)}
    assert len(texts) == 1


@pytest.mark.parametrize("temperature", [1e-4, 1e-9, 1e-300, 5e-324])
def test_towards_temperature_0_sampling_becomes_greedy(model, temperature):
    greedy = generate(model, TEXT, "the sky", 12, temperature=0)
    assert generate(model, TEXT, "the sky", 12, temperature=temperature) == greedy


@pytest.mark.parametrize("temperature", [0.1, 1.0, 50.0])
def test_the_best_of_one_is_greedy(model, temperature):
    greedy = generate(model, TEXT, "the sky", 12, temperature=0)
    assert generate(model, TEXT, "the sky", 12, temperature=temperature, top_k=1, seed=9) == greedy


def test_same_seed_same_text_another_seed_another(model):
    texts = [generate(model, TEXT, "the sky", 12, seed=seed) for seed in (0, 0, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) > 2


def draws(model, n=600, **asked):
    """How often each token follows the prompt."""
    prompt = "the sky"
    found = [new_tokens(generate(model, TEXT, prompt, 1, seed=seed, **asked), prompt)[0] for seed in range(n)]
    return np.bincount(found, minlength=TEXT.vocab_size) / n


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_draws_follow_the_softmax_at_the_temperature(model, temperature):
    logits = allowed_logits(model, TEXT.encode("the sky").tolist()) / temperature
    expected = np.exp(logits - logits.max())
    expected /= expected.sum()
    found = draws(model, temperature=temperature)
    # Four standard deviations of a share among 600 draws.
    assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 600) + 1e-12).all()


def test_draws_from_the_best_k_follow_their_shares(model):
    logits = allowed_logits(model, TEXT.encode("the sky").tolist())
    best = np.argsort(-logits)[:3]
    expected = np.zeros(TEXT.vocab_size)
    expected[best] = np.exp(logits[best] - logits.max())
    expected /= expected.sum()
    found = draws(model, top_k=3)
    assert set(np.flatnonzero(found)) == set(best.tolist())
    assert (np.abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 600) + 1e-12).all()


def test_of_equal_logits_those_of_smaller_ids_are_kept():
    model = make_model(init="zeros")
    assert set(np.flatnonzero(draws(model, n=60, top_k=2))) == {SPECIALS, SPECIALS + 1}
    assert new_tokens(generate(model, TEXT, "the", 3, temperature=0), "the") == [SPECIALS] * 3


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("asked", [{"temperature": 0}, {}, {"top_k": 2}, {"temperature": 100.0}], ids=str)
def test_specials_and_rows_beyond_the_vocabulary_are_never_drawn(table, asked):
    model = make_model(table, vocab_size=TEXT.vocab_size + 40)
    forbidden = np.r_[:SPECIALS, TEXT.vocab_size : TEXT.vocab_size + 40]
    # final_hidden is (1, 0, ..., 0) whatever the input, so that each token's logit is its first number.
    model.params["ln_final.gamma"][:] = 0.0
    model.params["ln_final.beta"][0] = 1.0
    model.params["token_embedding"][forbidden, 0] = 1e6
    logits = model.forward([[SPECIALS]]).logits[0, -1]
    assert set(np.argsort(-logits)[: forbidden.size]) == set(forbidden)
    for seed in range(4):
        ids = new_tokens(generate(model, TEXT, "the sky", 10, seed=seed, **asked), "the sky")
        assert len(ids) == 10
        assert all(SPECIALS <= token < TEXT.vocab_size for token in ids)


def test_a_language_without_specials_draws_every_symbol():
    model = make_model(corpus=LANGUAGE, init="zeros")
    text = generate(model, LANGUAGE, "a", 200)
    assert set(text.split()) == set(LANGUAGE.vocabulary)


@pytest.mark.parametrize("n_tokens", [0, 1, 7, 30])
def test_the_number_of_tokens_is_exact_and_the_prompt_is_verbatim(model, n_tokens):
    prompt = "The  SKY\tis"
    text = generate(model, TEXT, prompt, n_tokens)
    assert text.startswith(prompt)
    assert len(text.split()) == 3 + n_tokens
    assert n_tokens or text == prompt


def test_characters_follow_without_a_separator():
    corpus = Corpus.from_text("abc abd", "char")
    model = make_model(corpus=corpus)
    text = generate(model, corpus, "ab", 9)
    assert text.startswith("ab")
    assert len(text) == 11


def test_only_the_last_window_is_seen(model):
    long = TEXT.text.split()[:30]
    short = long[-8:]
    after_long, after_short = (
        new_tokens(generate(model, TEXT, " ".join(words), 10, seed=4), " ".join(words))
        for words in (long, short)
    )
    assert after_long == after_short


def test_a_trainer_generates_from_its_own_machine():
    trainer = make_trainer()
    trainer.run(steps=3)
    asked = ("the sky", 6, 0.7, 4, 3)
    assert trainer.generate(*asked) == generate(trainer.model, TEXT, *asked)
    assert trainer.generate("the sky", seed=1) == generate(trainer.model, TEXT, "the sky", 20, 1.0, None, 1)


# Token by token.


@pytest.mark.parametrize(
    "asked", [{"temperature": 0}, {"seed": 3}, {"temperature": 0.7, "top_k": 4, "seed": 2}], ids=str
)
def test_the_pieces_make_the_text(model, asked):
    pieces = list(generated_tokens(model, TEXT, "the sky", 12, **asked))
    assert len(pieces) == 12
    assert all(piece[0] == " " and piece[1:] in TEXT.vocabulary[SPECIALS:] for piece in pieces)
    assert "the sky" + "".join(pieces) == generate(model, TEXT, "the sky", 12, **asked)


def test_the_pieces_of_characters_are_characters():
    corpus = Corpus.from_text("abc abd", "char")
    pieces = list(generated_tokens(make_model(corpus=corpus), corpus, "ab", 9))
    assert [len(piece) for piece in pieces] == [1] * 9


def test_a_piece_is_drawn_when_it_is_asked_for_from_the_weights_of_that_moment():
    trainer = make_trainer()
    pieces = generated_tokens(trainer.model, TEXT, "the sky", 5, temperature=0)
    text = "the sky"
    for _ in range(5):
        # A step of training between two tokens.
        trainer.run(steps=8)
        expected = generate(trainer.model, TEXT, text, 1, temperature=0)
        text += next(pieces)
        assert text == expected
    assert text != generate(make_trainer().model, TEXT, "the sky", 5, temperature=0)
    with pytest.raises(StopIteration):
        next(pieces)


def test_the_pieces_of_two_generators_do_not_depend_on_each_other(model):
    alone = list(generated_tokens(model, TEXT, "the sky", 8, seed=5))
    one, other = (generated_tokens(model, TEXT, "the sky", 8, seed=5) for _ in range(2))
    assert [piece for pair in zip(one, other, strict=True) for piece in pair] == [
        piece for piece in alone for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "the skyy"}, "outside the vocabulary"),
        ({"n_tokens": -1}, "n_tokens must be"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"top_k": WORDS + 1}, "top_k="),
        ({"seed": -1}, "seed must be"),
    ],
    ids=str,
)
def test_what_cannot_be_generated_is_refused_before_the_first_piece_is_asked_for(model, wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        generated_tokens(model, TEXT, **({"prompt": "the sky"} | wrong))


def test_a_model_that_breaks_between_two_pieces_ends_them_with_an_error():
    model = make_model()
    pieces = generated_tokens(model, TEXT, "the sky", 5)
    next(pieces)
    model.params["ln_final.beta"][0] = np.nan
    with pytest.raises(ArithmeticError, match="logits are not all finite"):
        next(pieces)


# What is refused.


@pytest.mark.parametrize("prompt", ["", "  \n\t"])
def test_an_empty_prompt_is_refused(model, prompt):
    with pytest.raises(ValueError, match="prompt is empty; give at least one token"):
        generate(model, TEXT, prompt)


def test_an_unknown_word_is_refused_with_what_is_near(model):
    with pytest.raises(ValueError, match=r"outside the vocabulary: 'skyy' \(nearest known: 'sky'"):
        generate(model, TEXT, "the skyy")
    with pytest.raises(TypeError, match="text must be a str, got int"):
        generate(model, TEXT, 7)


@pytest.mark.parametrize("temperature", [-0.1, -1, float("nan"), float("inf"), "1", None])
def test_a_temperature_that_is_no_number_from_0_is_refused(model, temperature):
    with pytest.raises(ValueError) as caught:
        generate(model, TEXT, "the", temperature=temperature)
    assert str(caught.value) == f"temperature must be a finite number of at least 0; got {temperature!r}"


def test_more_of_the_best_than_there_are_is_refused(model):
    with pytest.raises(ValueError, match=f"^top_k={WORDS + 1} is more than the {WORDS} tokens there are$"):
        generate(model, TEXT, "the", top_k=WORDS + 1)
    assert generate(model, TEXT, "the", top_k=WORDS) == generate(model, TEXT, "the")


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "2", True])
def test_top_k_is_a_whole_number_from_1(model, wrong):
    with pytest.raises(ValueError, match=f"top_k must be a whole number of at least 1; got {wrong!r}"):
        generate(model, TEXT, "the", top_k=wrong)


@pytest.mark.parametrize("wrong", [-1, 1.5, "2", None, True])
def test_the_number_of_tokens_is_a_whole_number_from_0(model, wrong):
    with pytest.raises(ValueError, match=f"n_tokens must be a whole number of at least 0; got {wrong!r}"):
        generate(model, TEXT, "the", n_tokens=wrong)


def test_a_seed_that_is_none_is_refused(model):
    with pytest.raises(TypeError, match="seed must be a non-negative integer"):
        generate(model, TEXT, "the", seed=None)


def test_a_corpus_larger_than_the_model_is_refused():
    model = Transformer(make_model().config.__class__(vocab_size=4, d_model=4))
    with pytest.raises(CorpusError, match="vocab_size=4 is too small"):
        generate(model, TEXT, "the")


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_an_error_and_no_token(temperature, bad):
    model = make_model()
    model.params["ln_final.beta"][0] = bad
    with pytest.raises(ArithmeticError, match="logits are not all finite"):
        generate(model, TEXT, "the", temperature=temperature)


# Repetition.


@pytest.mark.parametrize(
    ("text", "n", "expected"),
    [
        ("is the blue is the blue", 3, 1 / 4),
        ("is the blue is the blue", 1, 1 / 2),
        ("is the blue is the blue", 2, 2 / 5),
        ("is the blue is the blue", 6, 0.0),
        ("a b c d e", 3, 0.0),
        ("a a a a a a", 3, 3 / 4),
        ("  a\nb  a\tb ", 2, 1 / 3),
        ("a a b b", 2, 0.0),
    ],
)
def test_repetition_of_known_texts(text, n, expected):
    assert repetition(text, n) == expected


def test_three_words_are_the_default():
    assert repetition("is the blue is the blue") == 0.25


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(1, 5))
def test_repetition_counts_what_stood_there_before(words, n):
    text = " ".join(words)
    if len(words) < n:
        with pytest.raises(ValueError, match=f"text has {len(words)} words, too few for n={n}"):
            repetition(text, n)
        return
    found = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    repeated = sum(gram in found[:place] for place, gram in enumerate(found))
    assert repetition(text, n) == repeated / len(found)
    assert 0.0 <= repetition(text, n) < 1.0
    assert repetition(" ".join(map(str, range(len(words)))), n) == 0.0


def test_what_is_no_text_has_no_repetition():
    with pytest.raises(TypeError, match="text must be a str; got list"):
        repetition(["a", "b", "c"])


@pytest.mark.parametrize("wrong", [0, -1, 2.0, "3"])
def test_the_length_of_what_repeats_is_a_whole_number_from_1(wrong):
    with pytest.raises(ValueError, match=f"n must be a whole number of at least 1; got {wrong!r}"):
        repetition("a b c", wrong)
