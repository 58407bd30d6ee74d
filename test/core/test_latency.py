"""LatencyModel: predictions from priors, from observations, and after the device changed its pace."""

import random

import pytest

from argus_ros.core.latency import LatencyModel


def test_nothing_known_predicts_zero_so_that_the_first_frame_runs():
    model = LatencyModel()
    assert model.predict("run", 3, 2) == 0.0
    assert model.typical("run", 0) == 0.0


def test_prediction_is_a_quantile_and_typical_is_the_mean():
    model, rng = LatencyModel(), random.Random(1)
    values = [rng.uniform(0.010, 0.014) for _ in range(100)]
    for value in values:
        model.observe("run", 0, 1, value)
    assert model.typical("run", 0) == pytest.approx(sum(values) / 100, rel=0.05)
    exceeded = sum(v > model.predict("run", 0) for v in values)
    assert exceeded <= 10
    assert model.predict("run", 0) <= max(values) * 1.05


def test_one_outlier_does_not_move_the_prediction():
    model = LatencyModel()
    for seconds in [0.01] * 10 + [1.0] + [0.01] * 40:
        model.observe("run", 0, 1, seconds)
    assert model.predict("run", 0) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("factor", [20.0, 0.05])
def test_two_surprises_in_a_row_change_the_pace_of_all_levels(factor):
    model = LatencyModel({("run", 0, 1): 0.01, ("run", 1, 1): 0.03, ("run", 1, 2): 0.04})
    for _ in range(20):
        model.observe("run", 1, 1, 0.03)
    for _ in range(2):
        model.observe("run", 1, 1, 0.03 * factor)
    assert model.predict("run", 1) == pytest.approx(0.03 * factor)
    assert model.predict("run", 0) == pytest.approx(0.01 * factor)
    assert model.predict("run", 1, 2) == pytest.approx(0.04 * factor)


def test_a_prior_of_another_machine_is_corrected_for_every_level():
    model = LatencyModel({("run", 0, 1): 0.01, ("run", 1, 1): 0.02})
    for _ in range(3):
        model.observe("run", 0, 1, 0.05)
    assert model.predict("run", 1) == pytest.approx(0.10)


def test_slow_drift_reaches_a_level_that_is_not_in_use():
    model = LatencyModel({("run", 0, 1): 0.01, ("run", 1, 1): 0.02})
    for i in range(400):
        model.observe("run", 0, 1, 0.01 * min(1.5, 1.0 + i / 200))
    assert 0.025 < model.predict("run", 1) < 0.033, "from 0.02, to 0.03 at the new pace"


def test_two_kinds_of_scenes_in_turn_are_both_expected():
    model = LatencyModel()
    for _ in range(60):
        model.observe("run", 0, 1, 0.01)
        model.observe("run", 0, 1, 0.05)
    assert model.predict("run", 0) == pytest.approx(0.05, rel=0.3)
    assert model.typical("run", 0) == pytest.approx(0.03, rel=0.3)


def test_unseen_levels_and_batches():
    model = LatencyModel({("run", 1, 1): 0.02, ("run", 2, 1): 0.05})
    assert model.predict("run", 1, 3) == pytest.approx(0.06), "a batch like its members one by one"
    assert model.predict("run", 4) == pytest.approx(0.05), "a higher level like the nearest below"
    assert model.predict("run", 0) == pytest.approx(0.02), "a lower level like the nearest above"


def test_work_cut_short_counts_only_where_it_exceeds_the_prediction():
    model = LatencyModel({("run", 0, 1): 0.1})
    model.observe("run", 0, 1, 0.05, at_least=True)
    assert model.predict("run", 0) == pytest.approx(0.1)
    for _ in range(3):
        model.observe("run", 0, 1, 0.3, at_least=True)
    assert model.predict("run", 0) == pytest.approx(0.3)


def test_zero_and_negative_durations_do_no_harm():
    model = LatencyModel()
    for seconds in (0.0, -1.0, 0.01, 0.01):
        model.observe("run", 0, 1, seconds)
    assert 0.0 < model.predict("run", 0) < 1.0


def test_stages_are_apart():
    model = LatencyModel({("run", 0, 1): 0.1})
    model.observe("prepare", 0, 1, 0.001)
    assert model.predict("run", 0) == pytest.approx(0.1)
    assert model.predict("prepare", 0) == pytest.approx(0.001)
