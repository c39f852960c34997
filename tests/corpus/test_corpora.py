import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.corpus import corpora
from cllm_lab.corpus.corpora import (
    SHIPPED_CORPORA,
    Corpus,
    CorpusNotFoundError,
    corpus_from_description,
    load_corpus,
)
from cllm_lab.corpus.entropies import bigram_entropy, positional_entropy, unigram_entropy
from cllm_lab.corpus.languages import ConstantLanguage, InductionLanguage, MarkovLanguage
from cllm_lab.corpus.source import CorpusError

TEXT = "The light goes round\nand round. The boat comes home.\n"


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "merrow.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


# Loading


@pytest.mark.parametrize("tokenizer", ["word", "char"])
@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_loaded_by_its_path(text_file, tokenizer, kind):
    corpus = load_corpus(kind(text_file), tokenizer)
    assert corpus.text == TEXT
    assert corpus.name is None
    assert corpus.path == text_file
    assert corpus.tokenizer_name == tokenizer
    assert corpus.n_tokens == (10 if tokenizer == "word" else len(TEXT))
    assert corpus.vocab_size == 5 + len(set(TEXT.lower().split() if tokenizer == "word" else TEXT))
    assert corpus.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()


def test_a_relative_path_is_remembered_whole(text_file, monkeypatch):
    monkeypatch.chdir(text_file.parent)
    assert load_corpus("merrow.txt").path == text_file


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_the_shipped_corpus_is_loaded_by_its_name(tokenizer):
    corpus = load_corpus("large", tokenizer)
    assert corpus.name == "large"
    assert corpus.path is None
    assert corpus.decode(corpus.tokens).split() == (
        corpus.text.lower().split() if tokenizer == "word" else corpus.text.split()
    )


def test_the_shipped_corpus_has_the_size_that_it_is_known_for():
    corpus = load_corpus("large")
    assert (corpus.n_tokens, corpus.vocab_size) == (1241, 611)


def test_a_shipped_name_goes_before_a_file_unless_it_is_a_path(tmp_path, monkeypatch):
    (tmp_path / "large").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_corpus("large").name == "large"
    assert load_corpus("./large").text == TEXT
    assert load_corpus(Path("large")).text == TEXT


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), min_size=2))
def test_any_text_is_loaded_as_it_is(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any_text.txt"
    path.write_bytes(text.encode())
    corpus = load_corpus(path, "char")
    assert corpus.text == corpus.decode(corpus.tokens) == text
    assert corpus.tokens.tolist() == Corpus.from_text(text, "char").tokens.tolist()


def test_line_ends_and_a_byte_order_mark_do_not_count(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes(b"\xef\xbb\xbfone two\r\nthree\rfour\n")
    assert load_corpus(path).text == "one two\nthree\nfour\n"


def test_from_text_keeps_the_text():
    corpus = Corpus.from_text("One two\r\nONE")
    assert corpus.text == "One two\r\nONE"
    assert corpus.tokens.tolist() == [5, 6, 5]
    assert (corpus.name, corpus.path) == (None, None)


def test_a_repr_is_short(text_file):
    assert repr(Corpus.from_text("a b " * 10_000)) == (
        "Corpus(the text, tokenizer='word', n_tokens=20000, vocab_size=7)"
    )
    assert "merrow.txt" in repr(load_corpus(text_file))
    assert "'large'" in repr(load_corpus("large"))


# What cannot be loaded


def test_a_missing_file_is_named_beside_the_shipped_corpora():
    with pytest.raises(
        CorpusNotFoundError, match=r"'nowhere\.txt'.*shipped corpora are: large, pydoc$"
    ) as caught:
        load_corpus("nowhere.txt")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ValueError)


def test_a_mistyped_name_is_guessed():
    with pytest.raises(CorpusNotFoundError, match="did you mean 'large'"):
        load_corpus("larg")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="is a directory; give the path of a text file"):
        load_corpus(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="not a regular file"):
        load_corpus(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a b\0c", "NUL bytes"),
        ("text in UTF-16".encode("utf-16"), "NUL bytes.*UTF-16"),
        ("one\ntwo caf\u00e9\n".encode("latin-1"), "not UTF-8: byte 0xe9 on line 2"),
        (b"alone", "too short: 1 word token"),
        (b" \n\t ", "too short: 0 word token"),
    ],
)
def test_a_file_that_is_no_text_is_refused_with_its_path(tmp_path, content, message):
    path = tmp_path / "strange.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError, match=rf"strange\.txt.*{message}"):
        load_corpus(path)


def test_one_character_is_too_short(tmp_path):
    with pytest.raises(CorpusError, match="too short: 1 char token"):
        Corpus.from_text("a", "char")
    assert Corpus.from_text("ab", "char").n_tokens == 2


@pytest.mark.parametrize("tokenizer", ["words", None, "symbol"])
def test_an_unknown_tokenizer_is_named_beside_those_that_exist(text_file, tokenizer):
    with pytest.raises(CorpusError, match=f"'word', 'char'; got {tokenizer!r}"):
        load_corpus(text_file, tokenizer)
    with pytest.raises(CorpusError, match=f"'word', 'char'; got {tokenizer!r}"):
        Corpus.from_text(TEXT, tokenizer)


@pytest.mark.parametrize("what", [None, 3, b"bytes"])
def test_a_corpus_is_asked_for_by_name_or_path(what):
    with pytest.raises(TypeError, match="name_or_path must be"):
        load_corpus(what)


def test_a_text_must_be_a_string_that_can_be_written():
    with pytest.raises(TypeError, match="text must be a str"):
        Corpus.from_text(b"a b")
    with pytest.raises(CorpusError, match="empty"):
        Corpus.from_text("")
    with pytest.raises(CorpusError, match="cannot be written as UTF-8"):
        Corpus.from_text("a \ud800")


# Plateaus


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_plateaus_are_the_entropies_of_the_tokens(tokenizer):
    corpus = load_corpus("large", tokenizer)
    plateaus = corpus.plateaus(sequence_length=32)
    assert plateaus.unigram == unigram_entropy(corpus.tokens[1:])
    assert plateaus.bigram == bigram_entropy(corpus.tokens)
    assert plateaus.positional == positional_entropy(corpus.tokens, 32)
    assert corpus.plateaus(sequence_length=8).positional == positional_entropy(corpus.tokens, 8)
    assert 0 < plateaus.positional < plateaus.bigram < plateaus.unigram < plateaus.uniform
    assert plateaus.uniform == np.log(corpus.vocab_size)


def test_plateaus_are_computed_when_asked_for_and_once(monkeypatch):
    calls = []

    def counted(name):
        original = getattr(corpora, name)

        def measure(*arguments):
            calls.append((name, *arguments[1:]))
            return original(*arguments)

        return measure

    for name in ("unigram_entropy", "bigram_entropy", "positional_entropy"):
        monkeypatch.setattr(corpora, name, counted(name))
    corpus = Corpus.from_text(TEXT)
    assert calls == []
    for _ in range(2):
        corpus.plateaus()
        corpus.plateaus(sequence_length=4)
        corpus.plateaus(sequence_length=5)
    assert sorted(calls) == [
        ("bigram_entropy",),
        ("positional_entropy", 4),
        ("positional_entropy", 5),
        ("unigram_entropy",),
    ]


# Descriptions


def through_json(corpus):
    return json.loads(json.dumps(corpus.description()))


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_texts_are_rebuilt_from_their_description(text_file, tokenizer, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(text_file.parent)
    for corpus in (load_corpus("large", tokenizer), load_corpus("merrow.txt", tokenizer)):
        description = through_json(corpus)
        with monkeypatch.context() as elsewhere:
            elsewhere.chdir(tmp_path_factory.mktemp("elsewhere"))
            rebuilt = corpus_from_description(description)
        assert (rebuilt.name, rebuilt.path, rebuilt.tokenizer_name) == (corpus.name, corpus.path, tokenizer)
        assert rebuilt.vocabulary == corpus.vocabulary
        assert rebuilt.tokens.tolist() == corpus.tokens.tolist()


@pytest.mark.parametrize(
    "language",
    [
        MarkovLanguage(n_symbols=5, seed=2**40, concentration=0.7, n_tokens=50),
        MarkovLanguage(np.int64(5), np.uint8(3), np.float64(0.7), np.int32(50)),
        InductionLanguage(n_symbols=5, block_length=3, seed=7, n_tokens=50),
        ConstantLanguage(n_symbols=3, n_tokens=50),
    ],
    ids=["markov", "markov from NumPy numbers", "induction", "constant"],
)
def test_languages_are_rebuilt_from_their_description(language):
    rebuilt = corpus_from_description(through_json(language))
    assert rebuilt == language
    assert rebuilt.tokens.tolist() == language.tokens.tolist()


def test_descriptions_tell_what_they_describe():
    assert load_corpus("large", "char").description()["name"] == "large"
    assert load_corpus("large", "char").description()["tokenizer"] == "char"
    assert Corpus.from_text("a b").description()["kind"] == "memory"
    assert MarkovLanguage(seed=4).description()["seed"] == 4
    assert SHIPPED_CORPORA == ("large", "pydoc")


def test_a_changed_file_is_refused_with_both_hashes(text_file):
    corpus = load_corpus(text_file)
    text_file.write_text(TEXT + "More.", encoding="utf-8")
    with pytest.raises(CorpusError) as caught:
        corpus_from_description(corpus.description())
    assert corpus.sha256 in str(caught.value)
    assert hashlib.sha256((TEXT + "More.").encode()).hexdigest() in str(caught.value)


@pytest.mark.parametrize("corpus", [load_corpus("large"), MarkovLanguage()], ids=["shipped", "language"])
def test_another_version_of_a_shipped_text_or_language_is_refused(corpus):
    with pytest.raises(CorpusError, match=f"{corpus.sha256}, expected 00ff"):
        corpus_from_description({**corpus.description(), "sha256": "00ff"})


def test_a_file_that_has_gone_is_refused(text_file):
    description = load_corpus(text_file).description()
    text_file.unlink()
    with pytest.raises(CorpusNotFoundError, match="merrow"):
        corpus_from_description(description)


def test_a_file_named_like_a_shipped_corpus_stays_a_file(tmp_path, monkeypatch):
    (tmp_path / "large").write_text(TEXT, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert corpus_from_description(load_corpus("./large").description()).text == TEXT


def test_a_text_in_memory_cannot_be_rebuilt():
    with pytest.raises(CorpusError, match=r"in memory.*pass the corpus itself"):
        corpus_from_description(Corpus.from_text("a b").description())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "poem"}, "kind 'poem'.*shipped, file, markov, induction, constant"),
        ({"name": "small"}, "'small'; there are: large"),
        ({"tokenizer": "syllable"}, "tokenizer"),
    ],
)
def test_a_description_of_nothing_known_is_refused(change, message):
    with pytest.raises(CorpusError, match=message):
        corpus_from_description({**load_corpus("large").description(), **change})


@pytest.mark.parametrize("corpus", [load_corpus("large"), MarkovLanguage()], ids=["shipped", "language"])
def test_an_incomplete_description_is_refused(corpus):
    description = corpus.description()
    for key in description:
        with pytest.raises(CorpusError, match=f"lacks '{key}'"):
            corpus_from_description({name: description[name] for name in description if name != key})


def test_pythons_help_topics_are_a_shipped_text():
    from pydoc_data.topics import topics

    corpus = load_corpus("pydoc", tokenizer="char")
    assert corpus.text == "\n".join(topics.values())
    assert corpus.n_tokens > 300_000
    assert corpus.description()["kind"] == "shipped"
    assert corpus_from_description(through_json(corpus)).sha256 == corpus.sha256
