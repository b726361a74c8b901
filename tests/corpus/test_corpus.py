"""The labels of the corpus are true, no kind of case is missing, and watching changes no training."""

from collections import Counter

import pytest
import torch

from tests.corpus import CASES, SYMPTOMS, TABLES, run
from tests.corpus.evidence import prove

NAMES = list(CASES)


@pytest.mark.parametrize("name", NAMES)
def test_the_label_is_true(name: str) -> None:
    """The float64 computation confirms the label of one seed; it was run by hand for all ten."""
    prove(CASES[name], seed=0)


def test_the_corpus_has_what_it_promises() -> None:
    cases = list(CASES.values())
    assert sum(len(table.CASES) for table in TABLES) == len(cases)  # names are unique
    assert len(cases) >= 90
    assert sum(case.is_healthy for case in cases) >= 35
    assert sum(bool(case.source) for case in cases) >= 15
    families = {"mlp", "cnn", "recurrent", "transformer", "gan", "autoencoder", "highway", "residual"}
    assert {case.family for case in cases} == families
    assert {case.family for case in cases if case.is_healthy} == families
    roots = Counter(case.symptoms[0] for case in cases if case.symptoms)
    assert set(roots) == set(SYMPTOMS)
    assert min(roots.values()) >= 2


@pytest.mark.parametrize("name", NAMES[::12])
def test_watching_changes_no_loss(name: str) -> None:
    _, watched = run(CASES[name], 1)
    _, bare = run(CASES[name], 1, watched=False)
    assert torch.equal(torch.tensor(watched).nan_to_num(), torch.tensor(bare).nan_to_num())


def test_seeds_are_different_runs() -> None:
    """Another seed has other initial weights, other data and another learning rate."""
    first, second = (CASES["mlp_deep_sigmoid"].training(seed) for seed in (0, 5))
    assert not torch.equal(first.model[0].weight[0], second.model[0].weight[0])
    assert not torch.equal(first.batches[0][0], second.batches[0][0])
    assert first.optimizer.param_groups[0]["lr"] != second.optimizer.param_groups[0]["lr"]
    again = CASES["mlp_deep_sigmoid"].training(0)
    assert torch.equal(first.model[0].weight, again.model[0].weight)
    assert torch.equal(first.batches[-1][0], again.batches[-1][0])
