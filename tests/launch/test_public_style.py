"""Scripts in the style of public ones, each unaware of Thruway, run healthy and with a planted fault.

Bare and watched runs print the same, bit for bit. A healthy run gets no finding. A planted fault is found under an
acceptable name, at the right layer and step.
"""

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
    """

    script: str
    fault: str
    trace: str
    rules: str
    layer: str
    steps: tuple[int, int] = (0, 0)


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
    Planted("hf_trainer", "forgotten_head", "BertForSequenceClassification", "frozen_parameters", r"classifier"),
    Planted("lightning_mlp", "deep_sigmoid", "Classifier", "vanishing_gradient", r"layers\.[0-6]"),
    Planted("accelerate_loop", "softmax_twice", "Mixer", "double_softmax", r"(head\.)?softmax"),
)


class Run:
    """A process that runs a script, in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        folder.mkdir()
        self.folder = folder
        # Output into files: pipes that nobody reads would block a process that waits for its turn.
        self._out, self._err = (folder / "stdout.txt").open("wb"), (folder / "stderr.txt").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, stdout=self._out, stderr=self._err, stdin=subprocess.DEVNULL
        )

    def finish(self) -> "Run":
        self.code = self._process.wait(timeout=600)
        self._out.close()
        self._err.close()
        self.out, self.err = (self.folder / "stdout.txt").read_bytes(), (self.folder / "stderr.txt").read_text()
        return self

    def stop(self) -> None:
        """End the process, if it still runs."""
        self._process.kill()
        self._process.wait()

    def diagnoses(self) -> dict[str, Diagnosis]:
        traces = [Trace.load(path) for path in sorted((self.folder / "thruway-watch").glob("*.npz"))]
        return {trace.model: tw.diagnose(trace) for trace in traces}


@pytest.mark.slow
@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.script}-{case.fault}")
def test_script_healthy_and_sick(case, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    script = str(SCRIPTS / f"{case.script}.py")
    watch = ("-m", "thruway.watch", "--no-report")
    runs = [
        Run(tmp_path / "bare", script),
        Run(tmp_path / "watched", *watch, script),
        Run(tmp_path / "sick", *watch, script, f"--fault={case.fault}"),
    ]
    try:
        bare, watched, sick = (run.finish() for run in runs)
    finally:
        for run in runs:
            run.stop()

    assert (bare.code, watched.code, sick.code) == (0, 0, 0), bare.err + watched.err + sick.err
    assert watched.out == bare.out
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
