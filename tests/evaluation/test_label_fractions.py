import numpy as np

from isojax.evaluation.label_fractions import labelled_part

LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [10, 50, 200]))


def test_every_class_gives_the_same_part_and_at_least_one():
    chosen = labelled_part(LABELS, 0.02)
    np.testing.assert_array_equal(np.bincount(LABELS[chosen]), [1, 1, 4])
    assert len(np.unique(chosen)) == len(chosen)


def test_the_choice_is_the_seeds_and_grows_with_the_fraction():
    few, many = labelled_part(LABELS, 0.1), labelled_part(LABELS, 0.5)
    assert set(few) < set(many)
    np.testing.assert_array_equal(few, labelled_part(LABELS, 0.1))
    assert set(few) != set(labelled_part(LABELS, 0.1, seed=1))
    np.testing.assert_array_equal(labelled_part(LABELS, 1.0), np.arange(len(LABELS)))


def test_the_part_is_rounded_and_drawn_from_the_whole_class():
    labels = np.repeat([0, 1], [17, 20])
    chosen = labelled_part(labels, 0.1)  # 1.7 and 2 images
    np.testing.assert_array_equal(np.bincount(labels[chosen]), [2, 2])
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    drawn = {tuple(labelled_part(labels, 0.1, seed=seed)) for seed in range(200)}
    assert set(np.ravel([*drawn])) == set(range(37))
