"""Raw camera bytes and raw state as the graphs take them; what does not fit is refused, never bent into shape."""

import numpy as np
import pytest

from edgevla.bundle.manifest import Camera
from edgevla.errors import BadInput
from edgevla.policy.preprocess import image_tensor, prefix_tensors, state_tensor


def camera(height, width, name="corner", fit="exact", size=None, when_missing="refuse"):
    wanted = size or (height, width)
    return Camera(name, width, height, 3, "rgb", 30.0, wanted[1], wanted[0], fit, when_missing)


def test_bytes_0_and_255_are_minus_one_and_one():
    image = np.zeros((2, 3, 3), np.uint8)
    image[1] = 255
    tensor = image_tensor(image, camera(2, 3))
    assert (tensor.shape, tensor.dtype) == ((1, 2, 3, 3), np.float32)
    assert (tensor[0, 0] == -1).all()
    assert (tensor[0, 1] == 1).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "told"),
    [
        ((48, 48, 3), np.uint8, r"uint8 \(48, 48, 3\)"),
        ((96, 96, 4), np.uint8, r"uint8 \(96, 96, 4\)"),
        ((96, 96), np.uint8, r"uint8 \(96, 96\)"),
        ((96, 96, 3), np.float32, r"float32 \(96, 96, 3\)"),
    ],
)
def test_an_image_of_another_size_or_type_is_refused_with_both_sizes(shape, dtype, told):
    with pytest.raises(BadInput, match=told) as caught:
        image_tensor(np.zeros(shape, dtype), camera(96, 96))
    assert "uint8 (96, 96, 3)" in str(caught.value)
    assert "cameras.toml" in str(caught.value)


def test_the_state_is_centred_and_scaled():
    mean, std = np.array([1.0, -2.0], np.float32), np.array([0.5, 4.0], np.float32)
    assert state_tensor(np.array([2.0, 2.0]), mean, std).tolist() == [[2.0, 1.0]]


@pytest.mark.parametrize("state", [[1.0], [1.0, 2.0, 3.0], [1.0, np.nan], [np.inf, 1.0]])
def test_a_state_of_another_length_or_not_finite_is_refused(state):
    with pytest.raises(BadInput, match="2 finite numbers"):
        state_tensor(np.array(state), np.zeros(2, np.float32), np.ones(2, np.float32))


def test_the_prefix_fills_the_first_rows_and_the_mask_says_which():
    rows, mask = prefix_tensors(np.array([[1, 2], [3, 4]], np.float32), horizon=4, d_max=3)
    assert rows.tolist() == [[[1, 2], [3, 4], [0, 0], [0, 0]]]
    assert mask.tolist() == [[[1], [1], [0], [0]]]


def test_no_prefix_at_all_is_a_mask_of_zeros():
    rows, mask = prefix_tensors(np.zeros((0, 2), np.float32), horizon=4, d_max=3)
    assert not rows.any()
    assert not mask.any()


def test_a_prefix_longer_than_trained_with_or_not_finite_is_refused():
    with pytest.raises(BadInput, match="at most 3 finite rows"):
        prefix_tensors(np.zeros((4, 2), np.float32), horizon=8, d_max=3)
    with pytest.raises(BadInput, match="at most 3 finite rows"):
        prefix_tensors(np.full((2, 2), np.nan, np.float32), horizon=8, d_max=3)
