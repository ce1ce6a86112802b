"""A tokenizer goes to the robot only where it says what the teacher said."""

from export.pack import same_suffix


def cut(text):
    return [ord(letter) for letter in text]


def test_the_suffix_is_the_one_that_gives_the_teachers_tokens():
    assert same_suffix(cut, {"ab": [97, 98], "a": [97]}) == ""
    assert same_suffix(cut, {"ab": [97, 98, 10], "a": [97, 10]}) == "\n"


def test_a_token_that_the_file_does_not_add_keeps_the_tokenizer_off_the_robot():
    assert same_suffix(cut, {"ab": [2, 97, 98, 10]}) is None
