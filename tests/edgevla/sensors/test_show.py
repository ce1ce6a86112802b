"""Pictures in a terminal and on a page."""

import numpy as np

from edgevla.sensors.show import half_blocks, page, shrunk


def test_two_pixels_above_one_another_are_one_character():
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0], picture[1] = (255, 0, 0), (0, 0, 255)
    text = half_blocks([picture], 2)
    assert text.plain == "▀▀  \n"
    assert {(span.style.color.name, span.style.bgcolor.name) for span in text.spans} == {("#ff0000", "#0000ff")}


def test_pictures_of_different_heights_stand_side_by_side():
    tall, wide = np.zeros((40, 20, 3), np.uint8), np.zeros((10, 20, 3), np.uint8)
    lines = half_blocks([tall, wide], 10).plain.splitlines()
    assert len(lines) == 10
    assert [line.count("▀") for line in lines[:3] + lines[-1:]] == [20, 20, 10, 10]


def test_a_shrunk_picture_keeps_its_shape_and_an_even_height():
    assert shrunk(np.zeros((480, 640, 3), np.uint8), 36).shape == (28, 36, 3)
    assert shrunk(np.zeros((2, 640, 3), np.uint8), 36).shape == (2, 36, 3)


def test_the_page_holds_both_pictures_and_escapes_what_it_says():
    image = np.zeros((4, 4, 3), np.uint8)
    text = page("a <b>", {"front": (image, image, ["red & blue"], ["dark"]), "wrist": (image, None, [], [])})
    assert text.count("data:image/png;base64,") == 3
    assert "a &lt;b&gt;" in text
    assert '<p class="wrong">red &amp; blue</p>' in text
    assert '<p class="doubtful">dark</p>' in text
    assert "nothing found" in text
    assert "http" not in text
