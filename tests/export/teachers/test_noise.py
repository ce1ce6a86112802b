"""The one noise z of a bundle: the teacher's choice, else the seed's."""

from dataclasses import replace

import numpy as np

from export.teachers.noise import bundle_noise, draw_noise


def test_the_same_seed_draws_the_same_noise_in_the_shape_of_a_chunk(teacher):
    noise = draw_noise(teacher, 5, 1.0)
    assert (noise.shape, noise.dtype) == ((32, 4), np.float32)
    assert (noise == draw_noise(teacher, 5, 1.0)).all()
    assert (noise != draw_noise(teacher, 6, 1.0)).any()


def test_the_scale_scales_it(teacher):
    assert (draw_noise(teacher, 5, 0.5) == 0.5 * draw_noise(teacher, 5, 1.0)).all()
    assert not draw_noise(teacher, 5, 0.0).any()


def test_a_teacher_without_a_choice_leaves_it_to_the_seed(teacher):
    assert (bundle_noise(teacher, 5) == draw_noise(teacher, 5, 1.0)).all()


def test_a_teacher_s_choice_counts_whatever_the_seed(teacher):
    chosen = replace(teacher, meta={**teacher.meta, "noise": {"seed": 3, "scale": 0.5}})
    assert (bundle_noise(chosen, 5) == draw_noise(teacher, 3, 0.5)).all()
    assert (bundle_noise(chosen, 6) == bundle_noise(chosen, 5)).all()
