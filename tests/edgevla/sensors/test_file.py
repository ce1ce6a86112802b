"""Recordings play at their rate, pass over what is late, and end when they end."""

import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from edgevla.errors import BadInput
from edgevla.sensors.sources import open_source
from edgevla.sensors.sources.base import Ended, Wanted, parse_source

sys.path.insert(0, str(Path(__file__).parent))

from cameras import solid, write_pictures, write_video

FILM = [solid((40 * i, 255 - 40 * i, 5)) for i in range(6)]


def play(path, rate_hz=50.0, width=48, height=32):
    return open_source(parse_source(f"file:{path}"), Wanted(width, height, rate_hz))


@pytest.fixture(params=["folder", "video"])
def film(request, tmp_path):
    if request.param == "folder":
        return write_pictures(tmp_path / "film", FILM)
    return write_video(tmp_path / "film.mkv", FILM, 50.0)


def read_into(shots, source):
    """Play for a while; what was seen is kept when it ends in an error."""
    for _ in range(40):
        if (shot := source.read(1.0)) is not None:
            shots.append(shot)


def value_of(shot):
    return round(int(shot.image[0, 0, 0]) / 40)


def test_every_picture_comes_once_in_order_at_its_rate_and_then_it_ends(film):
    source = play(film, 50.0)
    shots = []
    with pytest.raises(Ended, match="has ended"):
        read_into(shots, source)
    values = [value_of(shot) for shot in shots]
    assert values == sorted(set(values))  # in order; a stolen core may pass over some
    assert values[0] == 0 or len(values) < 6
    gaps = {b.stamp_ns - a.stamp_ns for a, b in pairwise(shots)}
    assert all(gap % 20_000_000 == 0 for gap in gaps)
    assert all(abs(int(s.image[0, 0, 1]) - (255 - 40 * value_of(s))) < 12 for s in shots)  # RGB, not BGR
    source.close()


def test_pictures_that_are_late_are_passed_over(film):
    source = play(f"{film},loop", 50.0)
    first = source.read(1.0)
    time.sleep(0.07)
    late = source.read(1.0)
    assert late.stamp_ns - first.stamp_ns >= 60_000_000
    assert time.monotonic_ns() - late.stamp_ns < 500_000_000
    source.close()


def test_a_loop_begins_again(film):
    source = play(f"{film},loop", 50.0)
    seen = [value_of(shot) for _ in range(14) if (shot := source.read(1.0)) is not None]
    assert any(b < a for a, b in pairwise(seen))
    source.close()


def test_a_short_wait_ends_before_the_next_picture(tmp_path):
    source = play(write_pictures(tmp_path / "film", FILM), 1.0)
    assert source.read(0.5) is not None
    begun = time.monotonic()
    assert source.read(0.02) is None
    assert time.monotonic() - begun < 0.5


def test_a_single_picture_can_stand_still(tmp_path):
    write_pictures(tmp_path, [solid((9, 8, 7))])
    source = play(f"{tmp_path / '0000.png'},loop")
    assert [tuple(source.read(1.0).image[0, 0]) for _ in range(2)] == [(9, 8, 7)] * 2


def test_a_video_of_another_rate_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"at 50 Hz(.|\n)*48 x 32 at 25 Hz"):
        play(write_video(tmp_path / "film.mkv", FILM, 25.0), 50.0)


def test_a_picture_of_another_size_within_a_folder_is_refused(tmp_path):
    source = play(f"{write_pictures(tmp_path / 'film', [solid(1), solid(1, width=50)])},loop")
    with pytest.raises(BadInput, match="wrong"):
        read_into([], source)


@pytest.mark.parametrize(
    ("name", "got"), [("nothing", "nothing there"), ("empty", "without pictures"), ("text.mp4", "cannot play")]
)
def test_what_cannot_be_played_is_refused(tmp_path, name, got):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(BadInput, match=got):
        play(tmp_path / name)


def test_a_file_that_is_no_picture_is_refused_by_name(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(BadInput, match=r"a\.png is no picture"):
        play(tmp_path)
