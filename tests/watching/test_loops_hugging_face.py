"""Hugging Face's Trainer, unchanged but for one `with` line; nothing is downloaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from thruway.watching import watch

STEPS = 4
RTOL, ATOL = 2e-4, 2e-6  # as in conftest


def seeded(build: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


class Sentences(torch.utils.data.Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids = torch.randint(3, 50, (10,), generator=torch.Generator().manual_seed(index))
        mask = torch.ones(10, dtype=torch.long)
        mask[10 - index % 4 :] = 0
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.where(mask > 0, ids, -100)}


def tiny_gpt2() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    return transformers.GPT2LMHeadModel(config)


def tiny_bert() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForMaskedLM(config)


FACES: dict[str, tuple[Callable[[], Any], dict[str, str]]] = {
    "gpt2": (
        tiny_gpt2,
        {
            "transformer.wte": "transformer.wte",
            "transformer.h.0.ln_1": "transformer.h.0.ln_1",
            "transformer.h.0.attn.c_proj": "transformer.h.0.attn.c_proj",
            "transformer.h.1.mlp.c_fc": "transformer.h.1.mlp.c_fc",
            "transformer.ln_f": "transformer.ln_f",
            "lm_head": "lm_head",
        },
    ),
    "bert": (
        tiny_bert,
        {
            "bert.embeddings.LayerNorm": "bert.embeddings.LayerNorm",
            "bert.encoder.layer.0.attention.self.query": "bert.encoder.layer.0.attention.self.query",
            "bert.encoder.layer.1.intermediate.dense": "bert.encoder.layer.1.intermediate.dense",
            "bert.encoder.layer.1.output.LayerNorm": "bert.encoder.layer.1.output.LayerNorm",
            "cls.predictions.decoder": "cls.predictions.decoder",
        },
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's; a failed watch is asserted
@pytest.mark.parametrize("name", FACES)
def test_hugging_face_trainer(name: str, tmp_path: Path, recorded: Any, assert_as_in_float64: Any) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    build, sites = FACES[name]
    model = seeded(build)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Sentences())
    with recorded(model) as steps, watch(model) as trace:
        trainer.train()
    assert len(steps) == STEPS
    assert_as_in_float64(trace, steps, sites, lambda output: output.loss)
    if name == "gpt2":  # two adds in each block: attention and MLP, and no other (positions, masks, tanh-GELU)
        assert len(trace.branches) == 4
        assert all(".h." in add for add in trace.branches)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # other people's; a failed watch is asserted
def test_hugging_face_trainer_by_its_optimizer(tmp_path: Path, recorded: Any) -> None:
    """Accumulation over two batches; the optimizer is wrapped by accelerate, and clips in between."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    model = seeded(tiny_gpt2)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=STEPS,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        max_grad_norm=1e9,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Sentences(), optimizers=(optimizer, None))
    with recorded(model) as calls, watch(model, optimizer=optimizer) as trace:
        trainer.train()
    assert trace.failure is None
    assert trace.steps == list(range(STEPS))
    assert len(calls) == 2 * STEPS
    norms = trace.series("norm", "parameter_gradient")
    means = trace.series("mean")
    for at in range(STEPS):
        twin, joint = calls[2 * at].model, []
        twin.zero_grad()
        for call in calls[2 * at : 2 * at + 2]:
            twin.transformer.ln_f.register_forward_hook(lambda _m, _i, output, joint=joint: joint.append(output))
            assert "num_items_in_batch" in call.keywords  # the trainer has the model divide by all tokens of both
            twin(**call.keywords).loss.backward()
            twin.transformer.ln_f._forward_hooks.clear()
        for parameter in ("transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_proj.bias"):
            wanted = twin.get_parameter(parameter).grad.norm().item()
            assert norms.values[norms.names.index(parameter), at] == pytest.approx(wanted, rel=RTOL)
        wanted = torch.cat(joint).mean().item()
        assert means.values[means.names.index("transformer.ln_f"), at] == pytest.approx(wanted, rel=RTOL, abs=ATOL)
