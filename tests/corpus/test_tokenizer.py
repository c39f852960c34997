import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cllm_lab.corpus.tokenizer import CharTokenizer, SymbolTokenizer, UnknownTokenError, WordTokenizer

BOTH = pytest.mark.parametrize("tokenizer_class", [WordTokenizer, CharTokenizer])


def test_word_vocabulary_is_specials_then_first_appearance():
    tokenizer = WordTokenizer("The cat\n\tsaw the CAT. Cat")
    assert tokenizer.vocabulary == ("PAD", "UNK", "BOS", "EOS", "MASK", "the", "cat", "saw", "cat.")
    assert tokenizer.vocab_size == 9
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.encode("cat THE cat.").tolist() == [6, 5, 8]


def test_char_vocabulary_keeps_case_and_whitespace():
    tokenizer = CharTokenizer("Aa \nA")
    assert tokenizer.vocabulary == ("PAD", "UNK", "BOS", "EOS", "MASK", "A", "a", " ", "\n")
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.encode("\naA").tolist() == [8, 6, 5]


def test_symbol_vocabulary_has_no_specials():
    tokenizer = SymbolTokenizer("a b c")
    assert tokenizer.vocabulary == ("a", "b", "c")
    assert tokenizer.special_ids == ()
    assert tokenizer.encode("c a").tolist() == [2, 0]


@given(st.text())
def test_words_survive_the_round_trip(text):
    tokenizer = WordTokenizer(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == " ".join(text.lower().split())
    assert tokenizer.encode(tokenizer.decode(ids)).tolist() == ids.tolist()


@given(st.text())
def test_characters_survive_the_round_trip(text):
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text


@BOTH
@given(text=st.text(), data=st.data())
def test_any_ids_but_specials_survive_the_round_trip(tokenizer_class, text, data):
    tokenizer = tokenizer_class(text)
    known = range(len(tokenizer.special_ids), tokenizer.vocab_size)
    ids = data.draw(st.lists(st.sampled_from(known)) if known else st.just([]))
    assert tokenizer.encode(tokenizer.decode(ids)).tolist() == ids


@BOTH
@given(text=st.text())
def test_each_piece_has_one_id_in_order_of_first_appearance(tokenizer_class, text):
    tokenizer = tokenizer_class(text)
    assert len(set(tokenizer.vocabulary)) == tokenizer.vocab_size
    first_seen = list(dict.fromkeys(tokenizer.encode(text).tolist()))
    assert first_seen == list(range(5, tokenizer.vocab_size))


@BOTH
def test_no_text_encodes_to_a_special_id(tokenizer_class):
    text = "PAD UNK BOS EOS MASK"
    assert tokenizer_class(text).encode(text).min() >= 5


def test_specials_stay_out_of_reach_of_a_tokenizer_that_keeps_case():
    class CaseKeeping(WordTokenizer):
        def _pieces(self, text):
            return text.split()

    assert CaseKeeping("PAD dog").encode("PAD dog").tolist() == [5, 6]
    with pytest.raises(UnknownTokenError, match=r"'PAD' \(nothing near it\)"):
        CaseKeeping("dog").encode("PAD")


def test_special_ids_decode_to_their_names():
    assert WordTokenizer("a").decode([0, 5, 3]) == "PAD a EOS"


def test_unknown_words_are_named_with_what_is_near_them():
    tokenizer = WordTokenizer("the lighthouse keeper")
    with pytest.raises(UnknownTokenError) as caught:
        tokenizer.encode("the lighthose zzz")
    message = str(caught.value)
    assert "'lighthose' (nearest known: 'lighthouse')" in message
    assert "'zzz' (nothing near it)" in message
    assert 'unknown="unk"' in message
    assert "'the'" not in message


def test_five_unknown_words_are_named_once_each_and_the_rest_counted():
    with pytest.raises(UnknownTokenError) as caught:
        WordTokenizer("known").encode("u1 u1 u2 u3 u4 u5 u6 u7")
    message = str(caught.value)
    assert all(message.count(f"'u{i}'") == 1 for i in range(1, 6))
    assert "'u6'" not in message
    assert "and 2 more" in message


def test_exactly_five_unknown_words_leave_no_rest():
    with pytest.raises(UnknownTokenError, match="'u5'") as caught:
        WordTokenizer("known").encode("u1 u2 u3 u4 u5")
    assert "more" not in str(caught.value)


def test_specials_are_not_offered_as_near():
    with pytest.raises(UnknownTokenError, match=r"'mask' \(nothing near it\)"):
        WordTokenizer("dog").encode("mask")


def test_an_unknown_character_is_named_with_its_other_case():
    with pytest.raises(UnknownTokenError, match=r"'A' \(nearest known: 'a'\), 'z' \(nothing near it\)"):
        CharTokenizer("abc").encode("Az")


def test_an_endless_unknown_word_is_shortened():
    with pytest.raises(UnknownTokenError) as caught:
        WordTokenizer("dog").encode("x" * 100_000)
    assert len(str(caught.value)) < 300


@BOTH
def test_unknown_pieces_become_unk_on_request(tokenizer_class):
    tokenizer = tokenizer_class("a b")
    ids = tokenizer.encode("a x b", unknown="unk")
    assert ids[0] == tokenizer.vocabulary.index("a")
    assert ids[-1] == tokenizer.vocabulary.index("b")
    assert (ids == tokenizer.vocabulary.index("UNK")).sum() == 1
    with pytest.raises(UnknownTokenError):
        tokenizer.encode("a x b")


def test_unk_needs_a_vocabulary_that_has_it():
    with pytest.raises(ValueError, match="no special tokens"):
        SymbolTokenizer("a b").encode("a", unknown="unk")
    with pytest.raises(UnknownTokenError) as caught:
        SymbolTokenizer("a b").encode("q")
    assert "unk" not in str(caught.value).replace("unknown", "")


def test_another_value_of_unknown_is_refused():
    with pytest.raises(ValueError, match=r"unknown must be .*'skip'"):
        WordTokenizer("a").encode("a", unknown="skip")


@BOTH
@pytest.mark.parametrize("text", [b"bytes", None, ["a"]])
def test_text_must_be_a_string(tokenizer_class, text):
    with pytest.raises(TypeError, match="text must be a str"):
        tokenizer_class("a").encode(text)
    with pytest.raises(TypeError, match="text must be a str"):
        tokenizer_class(text)


@BOTH
@pytest.mark.parametrize("bad", [6, -1])
def test_ids_outside_the_vocabulary_are_refused(tokenizer_class, bad):
    with pytest.raises(ValueError, match=rf"ids must lie in \[0, 6\).*got {bad}"):
        tokenizer_class("a").decode([5, bad])


@BOTH
def test_ids_must_be_integers(tokenizer_class):
    with pytest.raises(TypeError, match="ids must hold integers"):
        tokenizer_class("a").decode([5.0])


@BOTH
def test_nothing_decodes_to_nothing_and_back(tokenizer_class):
    assert tokenizer_class("a").decode([]) == ""
    assert tokenizer_class("a").encode("").shape == (0,)
