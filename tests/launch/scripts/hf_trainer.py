"""Tiny BERT for sequence classification, trained by the Trainer of Transformers."""

import argparse

import torch
import transformers

parser = argparse.ArgumentParser()
parser.add_argument("--fault", default="")
args = parser.parse_args()
transformers.set_seed(0)
transformers.logging.set_verbosity_error()

config = transformers.BertConfig(
    vocab_size=32,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=16,
    num_labels=2,
)
model = transformers.BertForSequenceClassification(config)


class ContainsToken(torch.utils.data.Dataset):
    """Sequences of 12 tokens; the label says if more than half of them are below 16."""

    def __len__(self):
        return 512

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        label = index % 2
        tokens = torch.randint(1, 32, (12,), generator=generator)
        tokens[:9] = torch.randint(1, 16, (9,), generator=generator) + (0 if label else 16)
        return {"input_ids": tokens, "attention_mask": torch.ones(12, dtype=torch.long), "labels": torch.tensor(label)}


class PrintLoss(transformers.TrainerCallback):
    def on_log(self, arguments, state, control, logs=None, **kwargs):
        if "loss" in logs:
            print(state.global_step, repr(logs["loss"]), repr(logs["grad_norm"]))


trained = model.bert if args.fault == "forgotten_head" else model
optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3)
training_args = transformers.TrainingArguments(
    output_dir="out",
    max_steps=30,
    per_device_train_batch_size=16,
    logging_steps=1,
    save_strategy="no",
    report_to="none",
    disable_tqdm=True,
    use_cpu=True,
    seed=0,
)
trainer = transformers.Trainer(
    model=model,
    args=training_args,
    train_dataset=ContainsToken(),
    optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 60)),
    callbacks=[PrintLoss()],
)
trainer.remove_callback(transformers.PrinterCallback)  # prints times
trainer.train()
