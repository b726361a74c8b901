"""Report of the study of tables 2 and 3: errors of every network, and the paper's accuracies."""

from thruway.experiments.highway2015.cifar import SCALES, Config, Name, best_rate, claims, contenders, dissect_layers
from thruway.experiments.machinery import ComparedPage, Published, Rows, compared_study, error_of, errors_of

__all__ = ["STUDY", "page"]

_TABLE_2 = (
    Published("Teacher, 5 layers, ~9M parameters", "90.18", "table 2"),
    Published("Fitnet A, 11 layers, ~250K", "89.01", "table 2", "fitnet-a"),
    Published("Highway A, 11 layers, ~236K", "89.18", "table 2", "highway-a"),
    Published("Fitnet B, 19 layers, ~2.5M", "91.61", "table 2", "fitnet-b"),
    Published("Highway B, 19 layers, ~2.3M", "92.46 (92.28 ± 0.16)", "table 2", "highway-b"),
    Published("Highway C, 32 layers, ~1.25M", "91.20", "table 2", "highway-c"),
)
_TABLE_3 = {
    "cifar10": (
        Published("Highway", "92.40 (92.31 ± 0.12)", "table 3", "highway-b"),
        Published("Maxout", "90.62", "table 3"),
        Published("dasNet", "90.78", "table 3"),
        Published("NiN", "91.19", "table 3"),
        Published("DSN", "92.03", "table 3"),
        Published("All-CNN", "92.75", "table 3"),
    ),
    "cifar100": (
        Published("Highway", "67.76 (67.61 ± 0.15)", "table 3", "highway-b"),
        Published("Maxout", "61.42", "table 3"),
        Published("dasNet", "66.22", "table 3"),
        Published("NiN", "64.32", "table 3"),
        Published("DSN", "65.43", "table 3"),
        Published("All-CNN", "66.29", "table 3"),
    ),
}
_DIFFERS = (
    "the published fitnets were trained in two stages, with hints from a teacher; here they start from random weights, "
    "without dropout, like all other networks",
    "the layers of Highway A and C are not published; ours have their depth and, at paper scale, their size",
    "the plain networks of 19 and 32 layers are ours: the tables have none",
    "Highway B is the authors' published network of 19 layers, with the head of table 3",
    "at demo and laptop scale there is no dropout: in pilot runs of twelve epochs on digits the highway networks did "
    "not even fit the training examples with dropout",
    "one weight decay and one learning rate for all parameters; the authors do not decay the biases, double their "
    "rate, and decay the weights of the last layer ten times as much",
    "all networks use the published learning rate of Highway B; at laptop scale each is also trained with 0.003, and "
    "for each seed the one with the lower training error is used",
    "the authors pad images of 32 pixels by 8 before cropping, as the paper scale does; here the padding repeats the "
    "edges",
)


def page(config: Config) -> ComparedPage:
    """Return the texts of the report."""
    narrower = "" if config.narrower == 1 else f", {config.narrower} times narrower than published"
    is_cifar100 = config.data == "cifar100"
    return ComparedPage(
        title="Do highway networks of 19 and 32 layers train in a single stage?",
        subtitle="Tables 2 and 3 of Training Very Deep Networks, Srivastava, Greff & Schmidhuber 2015",
        lead=_lead,
        published=_TABLE_3["cifar100"] if is_cifar100 else (*_TABLE_2, *_TABLE_3["cifar10"]),
        paper_data=f"The paper's networks were trained on {'CIFAR-100' if is_cifar100 else 'CIFAR-10'}; ours were "
        f"trained on {config.data}.",
        nets=f"{', '.join(each.label for each in contenders(config))}{narrower}",
        differs=_DIFFERS,
        chosen=best_rate,
    )


# The comparisons in the lead.
_PAIRS: tuple[tuple[Name, str, Name, str], ...] = (
    ("highway-b", "Highway B of 19 layers", "fitnet-b", "the fitnet of the same depth"),
    ("highway-c", "Highway C of 32 layers", "highway-a", "Highway A of 11 layers"),
    ("plain-b", "The plain network of 19 layers", "plain-c", "the one of 32 layers"),
)


def _lead(rows: Rows) -> str:
    sentences = [
        f"{first} has a test error of {error_of(rows, one):.1%}, {second} one of {error_of(rows, other):.1%}."
        for one, first, other, second in _PAIRS
        if errors_of(rows, one) and errors_of(rows, other)
    ]
    return " ".join(sentences)


STUDY = compared_study(
    name="highway2015.cifar",
    title="highway networks of 19 and 32 layers train in a single stage; other thin deep networks needed hints",
    source="Srivastava, Greff & Schmidhuber 2015 (Training Very Deep Networks), tables 2 and 3",
    config=Config,
    scales=SCALES,
    contenders=contenders,
    claims=claims,
    page=page,
    open_net=dissect_layers,
    example="--scale demo --nets highway-b plain-b",
)
