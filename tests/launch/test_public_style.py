"""Scripts in the style of public ones, each unaware of Thruway, run healthy and with a planted fault.

Bare and watched runs print the same, bit for bit. A healthy run gets no finding. A planted fault is found under an
acceptable name, at the right layer and step.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import thruway as tw
from thruway.diagnosing import Diagnosis
from thruway.watching import Trace

SCRIPTS = Path(__file__).parent / "scripts"


@dataclass(frozen=True)
class Planted:
    """A script, the fault that it plants when asked to, and what has to be found.

    Attributes:
        trace: regular expression of the model in whose trace it has to be found.
        rules: acceptable rules.
        layer: regular expression of the worst site, or "" for faults of the whole network.
        steps: first and last acceptable step of the onset.
        imports: large libraries that the script imports besides PyTorch.
    """

    script: str
    fault: str
    trace: str
    rules: str
    layer: str
    steps: tuple[int, int] = (0, 0)
    imports: str = ""


TABLE = (
    Planted("mnist_cnn", "dead_relu", "Net", "dead_units", r"conv2(\.relu)?"),
    Planted("cifar_resnet", "learning_rate", "ResNet", "lr_too_high", "", (0, 1)),
    Planted("gpt_trainer", "frozen_position", "GPT", "frozen_parameters", r"transformer\.wpe"),
    Planted("language_model", "no_zero_grad", "GPT", "gradients_accumulate", "", (1, 1)),
    Planted("dcgan", "wrong_parameters", "Generator", "frozen_parameters", r"main\.\d"),
    Planted("vae", "unscaled_input", "VAE", "unscaled_input", r"fc1|input"),
    Planted("lstm_tagger", "detached", "LSTMTagger", "frozen_parameters", r"lstm|word_embeddings"),
    Planted("char_rnn", "learning_rate", "RNN", "lr_too_low", ""),
    Planted("gcn", "zero_weights", "GCN", "constant_output symmetric_init", r"gc\d"),
    Planted("siamese", "softmax_of_one_unit", "SiameseNetwork", "double_softmax", r"probability"),
    Planted("autoencoder", "large_weights", "Autoencoder", "poor_init", r"(en|de)coder\.\d+"),
    Planted("seq2seq", "nan", "AttnDecoderRNN", "nan_or_inf", r"attention(\.\w+)?", (7, 7)),
    Planted(
        "hf_trainer",
        "forgotten_head",
        "BertForSequenceClassification",
        "frozen_parameters",
        r"classifier",
        imports="transformers.trainer transformers.models.bert.modeling_bert",
    ),
    Planted("lightning_mlp", "deep_sigmoid", "Classifier", "vanishing_gradient", r"layers\.[0-6]", imports="lightning"),
    Planted("accelerate_loop", "softmax_twice", "Mixer", "double_softmax", r"(head\.)?softmax", imports="accelerate"),
)


@dataclass(frozen=True)
class Run:
    """A run of a script that has ended, in a folder of its own."""

    folder: Path
    code: int

    @property
    def out(self) -> bytes:
        return (self.folder / "stdout.txt").read_bytes()

    @property
    def err(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    def diagnoses(self) -> dict[str, Diagnosis]:
        traces = [Trace.load(path) for path in sorted((self.folder / "thruway-watch").glob("*.npz"))]
        return {trace.model: tw.diagnose(trace) for trace in traces}


class Forking:
    """The process of forking.py: a new one for each script would spend most of its time on imports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "forking.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def run(self, imports: str, commands: dict[Path, list[str]]) -> list[Run]:
        """Run several commands at once, each in its folder."""
        for folder in commands:
            folder.mkdir()
        runs = [(str(folder), words) for folder, words in commands.items()]
        self._process.stdin.write(json.dumps({"imports": imports.split(), "runs": runs}) + "\n")
        self._process.stdin.flush()
        codes = json.loads(self._process.stdout.readline() or "[]")
        return [Run(folder, code) for folder, code in zip(commands, codes, strict=True)]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def forking():
    process = Forking()
    yield process
    process.close()


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.script}-{case.fault}")
def test_script_healthy_and_sick(case, tmp_path, forking):
    script = str(SCRIPTS / f"{case.script}.py")
    watch = ["-m", "thruway.watch", "--no-report"]
    bare, watched, sick = forking.run(
        case.imports,
        {
            tmp_path / "bare": [script],
            tmp_path / "watched": [*watch, script],
            tmp_path / "sick": [*watch, script, f"--fault={case.fault}"],
        },
    )

    assert (bare.code, watched.code, sick.code) == (0, 0, 0), bare.err + watched.err + sick.err
    assert watched.out == bare.out
    assert not (bare.folder / "thruway-watch").exists()
    assert len(bare.out.splitlines()) > 10
    assert sick.out != bare.out

    healthy = watched.diagnoses()
    assert healthy
    for model, diagnosis in healthy.items():
        assert diagnosis.healthy, f"{model}\n{diagnosis}"
        assert "healthy" in watched.err

    found = [
        (finding, model) for model, diagnosis in sick.diagnoses().items() for finding in diagnosis if _is(finding, case)
    ]
    assert found, sick.err
    assert any(re.match(case.trace, model) for _, model in found), sick.err


def _is(finding, case):
    at = finding.sites[0] if finding.sites else ""
    first, last = case.steps
    return (
        finding.rule in case.rules.split()
        and (not case.layer or re.fullmatch(case.layer, at) is not None)
        and first <= finding.onset <= last
    )
