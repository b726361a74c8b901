"""Training scripts in the style of public ones: the same losses, bit for bit, and a trace of every step."""

import pytest

STYLES = {
    "dcgan": (
        """
        import torch
        from torch import nn
        torch.manual_seed(0)
        torch.set_num_threads(1)

        def weights_init(m):
            if m.__class__.__name__.find("Conv") != -1:
                torch.nn.init.normal_(m.weight, 0.0, 0.02)

        class Generator(nn.Module):
            def __init__(self):
                super().__init__()
                self.main = nn.Sequential(
                    nn.ConvTranspose2d(8, 8, 4, 1, 0, bias=False), nn.BatchNorm2d(8), nn.ReLU(True),
                    nn.ConvTranspose2d(8, 1, 4, 2, 1, bias=False), nn.Tanh())
            def forward(self, input):
                return self.main(input)

        class Discriminator(nn.Module):
            def __init__(self):
                super().__init__()
                self.main = nn.Sequential(
                    nn.Conv2d(1, 8, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
                    nn.Conv2d(8, 1, 4, 1, 0, bias=False), nn.Sigmoid())
            def forward(self, input):
                return self.main(input).view(-1, 1).squeeze(1)

        netG, netD = Generator().apply(weights_init), Discriminator().apply(weights_init)
        criterion = nn.BCELoss()
        optimizerD = torch.optim.Adam(netD.parameters(), lr=0.0002, betas=(0.5, 0.999))
        optimizerG = torch.optim.Adam(netG.parameters(), lr=0.0002, betas=(0.5, 0.999))
        for i in range(4):
            netD.zero_grad()
            real = torch.randn(4, 1, 8, 8)
            label = torch.full((4,), 1.0)
            errD_real = criterion(netD(real), label)
            errD_real.backward()
            fake = netG(torch.randn(4, 8, 1, 1))
            errD_fake = criterion(netD(fake.detach()), label.fill_(0))
            errD_fake.backward()
            optimizerD.step()
            netG.zero_grad()
            errG = criterion(netD(fake), label.fill_(1))
            errG.backward()
            optimizerG.step()
            print(errD_real.item().hex(), errD_fake.item().hex(), errG.item().hex())
        """,
        {"discriminator-adam-0": 4, "generator-adam-1": 4},
    ),
    "mingpt": (
        """
        import math
        import torch
        from torch import nn
        from torch.nn import functional as F
        torch.manual_seed(0)
        torch.set_num_threads(1)

        class Block(nn.Module):
            def __init__(self, n):
                super().__init__()
                self.ln_1, self.ln_2 = nn.LayerNorm(n), nn.LayerNorm(n)
                self.attn, self.proj = nn.Linear(n, 3 * n), nn.Linear(n, n)
                self.mlp = nn.ModuleDict(dict(c_fc=nn.Linear(n, 4 * n), c_proj=nn.Linear(4 * n, n)))
            def forward(self, x):
                q, k, v = self.attn(self.ln_1(x)).chunk(3, -1)
                att = (q @ k.transpose(1, 2) / math.sqrt(q.size(-1))).softmax(-1)
                x = x + self.proj(att @ v)
                return x + self.mlp.c_proj(F.gelu(self.mlp.c_fc(self.ln_2(x))))

        class GPT(nn.Module):
            def __init__(self):
                super().__init__()
                self.wte, self.h, self.head = nn.Embedding(10, 8), nn.Sequential(Block(8), Block(8)), nn.Linear(8, 10)
            def configure_optimizers(self):
                decay = [p for p in self.parameters() if p.dim() >= 2]
                others = [p for p in self.parameters() if p.dim() < 2]
                groups = [{"params": decay, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
                return torch.optim.AdamW(groups, lr=1e-3)
            def forward(self, idx, targets=None):
                logits = self.head(self.h(self.wte(idx)))
                if targets is None:
                    return logits, None
                return logits, F.cross_entropy(logits.view(-1, 10), targets.reshape(-1))

        model = GPT()
        optimizer = model.configure_optimizers()
        for step in range(4):
            x = torch.randint(10, (2, 6))
            logits, loss = model(x[:, :-1], x[:, 1:])
            model.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 2:
                model.eval()
                with torch.no_grad():
                    print(model(x)[0].sum().item().hex())
                model.train()
            print(loss.item().hex())
        """,
        {"gpt-adamw-0": 4},
    ),
    "trainer": (
        """
        import torch, transformers
        transformers.set_seed(0)
        torch.set_num_threads(1)
        config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)
        model = transformers.GPT2LMHeadModel(config)
        data = [{"input_ids": torch.arange(8) + i, "labels": torch.arange(8) + i} for i in range(12)]
        arguments = transformers.TrainingArguments(
            output_dir="out", max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=2, use_cpu=True,
            report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, dataloader_num_workers=0)
        class Log(transformers.TrainerCallback):
            def on_log(self, args, state, control, logs=None, **kwargs):
                print(sorted((k, v) for k, v in logs.items() if "runtime" not in k and "second" not in k))
        trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Log()])
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
        print(sum(p.double().sum() for p in model.parameters()).item().hex())
        """,
        {"gpt2lmheadmodel-adamw-0": 3},
    ),
    "lightning": (
        """
        import logging, warnings
        warnings.filterwarnings("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        import lightning, torch
        from torch import nn
        torch.set_num_threads(1)
        lightning.seed_everything(0, verbose=False)

        class Autoencoder(lightning.LightningModule):
            def __init__(self):
                super().__init__()
                self.encoder = nn.Sequential(nn.Linear(8, 4), nn.Tanh())
                self.decoder = nn.Linear(4, 8)
            def training_step(self, batch, index):
                loss = nn.functional.mse_loss(self.decoder(self.encoder(batch)), batch)
                print(loss.item().hex())
                return loss
            def validation_step(self, batch, index):
                print(self.decoder(self.encoder(batch)).sum().item().hex())
            def configure_optimizers(self):
                return torch.optim.Adam(self.parameters(), lr=1e-3)

        loader = torch.utils.data.DataLoader(torch.randn(16, 8), batch_size=4)
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
                                    enable_progress_bar=False, enable_model_summary=False)
        trainer.fit(Autoencoder(), loader, loader)
        """,
        {"autoencoder-adam-0": 4},
    ),
    "accelerate": (
        """
        import torch
        from accelerate import Accelerator
        from torch import nn
        torch.manual_seed(0)
        torch.set_num_threads(1)
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        loader = torch.utils.data.DataLoader(torch.randn(24, 4), batch_size=4, shuffle=True)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
        model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(batch).square().mean()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            print(loss.item().hex())
        """,
        {"sequential-adamw-0": 3},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_scripts_in_the_style_of_public_ones(style, place):
    for module in {"trainer": ["transformers", "accelerate"], "lightning": ["lightning"]}.get(style, []):
        pytest.importorskip(module)
    source, wanted = STYLES[style]
    place.write("train.py", source)
    bare, watched = place.both("train.py")
    assert bare.code == 0, bare.err
    traces = place.traces()
    assert {name: len(trace.steps) for name, trace in traces.items()} == wanted, watched.err
    for trace in traces.values():
        assert trace.failure is None
        assert trace.steps[0] == 0
        assert trace.quantities("update")
    assert "thruway watch:" not in watched.err
