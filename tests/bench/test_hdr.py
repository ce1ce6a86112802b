"""bench/hdr: what a result says of a distribution can be computed again from the histogram that it carries."""

import numpy as np
import pytest

from bench.hdr import decoded, histogram_of
from edgevla.errors import BadInput

SAMPLES = np.random.default_rng(1).lognormal(13, 1, 5000)  # ns, some 0.4 ms


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99, 0.999])
def test_a_quantile_is_that_of_the_samples_to_three_digits(quantile):
    rank = int(np.ceil(quantile * SAMPLES.size)) - 1
    assert histogram_of(SAMPLES).quantile_ns(quantile) == pytest.approx(np.sort(SAMPLES)[rank], rel=1e-3)


def test_the_encoding_holds_all_of_it():
    made = histogram_of(SAMPLES)
    again = decoded(made.encoded)
    assert again.count == SAMPLES.size
    assert again.maximum_ns >= SAMPLES.max() - 1
    assert (again.values.tolist(), again.counts.tolist()) == (made.values.tolist(), made.counts.tolist())


def test_every_rank_has_its_value():
    made = histogram_of([5, 1, 1, 3])
    assert [made.at_rank(rank) for rank in range(4)] == [1, 1, 3, 5]


def test_a_negative_duration_counts_as_none_and_an_endless_one_as_an_hour():
    made = histogram_of([-3.0, 1e18])
    assert made.values[0] == 0
    assert made.maximum_ns == pytest.approx(3.6e12, rel=1e-3)


@pytest.mark.parametrize("text", ["", "no histogram", "AAAA"])
def test_foreign_text_is_bad_input(text):
    with pytest.raises(BadInput, match="HDR histogram"):
        decoded(text)
