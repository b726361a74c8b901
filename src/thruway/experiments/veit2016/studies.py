"""The paper's five studies, as the command line knows them."""

from thruway.experiments.experiment import Experiment
from thruway.experiments.image_parts import load_parts
from thruway.experiments.veit2016 import (
    effective_paths,
    effective_paths_report,
    effective_paths_run,
    lesion,
    lesion_report,
    lesion_run,
    path_survival,
    path_survival_report,
    path_survival_run,
    paths,
    paths_report,
    paths_run,
    stochastic_depth,
    stochastic_depth_report,
    stochastic_depth_run,
)

__all__ = ["EFFECTIVE_PATHS", "LESION", "PATHS", "PATH_SURVIVAL", "STOCHASTIC_DEPTH"]

LESION = Experiment(
    name="veit2016.lesion",
    title="a residual net shrugs off the loss and the reordering of modules; a plain net needs every layer",
    source="Veit, Wilber & Belongie 2016, figs. 3 to 5",
    config=lesion.Config,
    scales=lesion.SCALES,
    prepare=load_parts,
    run=lesion_run.run_study,
    report=lesion_report.write_report,
)
PATHS = Experiment(
    name="veit2016.paths",
    title="short paths carry the gradient of a deep residual net, although most paths are long",
    source="Veit, Wilber & Belongie 2016, fig. 6",
    config=paths.Config,
    scales=paths.SCALES,
    prepare=load_parts,
    run=paths_run.run_study,
    report=paths_report.write_report,
)
EFFECTIVE_PATHS = Experiment(
    name="veit2016.effective_paths",
    title="a net trained on short paths only, 23 of 54 modules in a batch, is as good as one trained on all",
    source="Veit, Wilber & Belongie 2016, sec. 5",
    config=effective_paths.Config,
    scales=effective_paths.SCALES,
    prepare=load_parts,
    run=effective_paths_run.run_study,
    report=effective_paths_report.write_report,
)
PATH_SURVIVAL = Experiment(
    name="veit2016.path_survival",
    title="deleting modules destroys the long paths, and leaves many of the short ones that matter",
    source="Veit, Wilber & Belongie 2016, fig. 7",
    config=path_survival.Config,
    scales=path_survival.SCALES,
    prepare=load_parts,
    run=path_survival_run.run_study,
    report=path_survival_report.write_report,
)
STOCHASTIC_DEPTH = Experiment(
    name="veit2016.stochastic_depth",
    title="stochastic depth makes a net only a little more robust to the loss of modules",
    source="Veit, Wilber & Belongie 2016, fig. 8",
    config=stochastic_depth.Config,
    scales=stochastic_depth.SCALES,
    prepare=load_parts,
    run=stochastic_depth_run.run_study,
    report=stochastic_depth_report.write_report,
)
